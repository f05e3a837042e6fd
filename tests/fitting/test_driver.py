"""Results of the driver: histories against NumPy, seeds, batches, starts and progress."""

import io
import re
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from walks import DATA, NO_BATCHES, PROBLEM, RATE, START, assert_identical, calm, run, walk

from shohypernet import hyperparameters as hp
from shohypernet.batches import Data
from shohypernet.fitting import _health as health
from shohypernet.fitting import _plan as plans


def test_history_is_as_worked_out_by_hand():
    inner_steps, steps, every = 3, 6, 2
    result = calm(steps=steps, eval_every=every, inner_steps=inner_steps)
    history = result.history

    done = np.arange(0, steps + 1, every)
    weights = 1 + done * inner_steps * 3.0  # 3 is the mean of the training examples
    np.testing.assert_array_equal(history.step, done)
    for loss, mean in (
        (history.valid_loss_on_train, 3.0),
        (history.valid_loss, 1.0),
        (history.test_loss, 4.0),
    ):
        np.testing.assert_allclose(loss, np.outer(weights * mean, [1, 1]), rtol=1e-6)
    np.testing.assert_array_equal(
        history.gradient_evaluations, np.outer(done * (inner_steps + 1), [1, 1])
    )
    # Each step tells its number as the norm: the mean of 0 and 1, of 2 and 3, of 4 and 5.
    np.testing.assert_allclose(history.hypergradient_norm, np.outer([0, 0.5, 2.5, 4.5], [1, 1]))
    path = START[None] - RATE * done[:, None]
    np.testing.assert_allclose(history.hyperparams, np.stack([path, path], axis=1), rtol=1e-6)
    np.testing.assert_array_equal(result.hyperparams, history.hyperparams[-1])
    np.testing.assert_array_equal(history.unconstrained, history.hyperparams)
    np.testing.assert_allclose(result.params, weights[-1:].repeat(2), rtol=1e-6)


def test_seconds_grow_and_leave_out_compiling(monkeypatch):
    ticks = [0]

    def tick(by=1):
        ticks[0] += by
        return ticks[0]

    def slow_to_trace(state, info):
        tick(by=1_000_000)
        return state, info

    monkeypatch.setattr(time, "perf_counter", tick)
    result = calm(walk(on_step=slow_to_trace))
    assert result.history.seconds[0] == 0
    assert np.all(np.diff(result.history.seconds) > 0)
    assert result.history.seconds[-1] < 1_000_000
    assert result.compile_seconds >= 1_000_000


@pytest.mark.parametrize(("train", "valid"), [(None, None), (3, 1), (7, 5)])
def test_a_method_sees_the_batches_asked_for(train, valid):
    seen = []

    def step(key, state, train_batches, valid_batch):
        seen.extend(jax.tree.map(jnp.shape, (train_batches, valid_batch)))
        raise StopIteration

    data = Data(*({"x": split, "y": split[:, None]} for split in DATA))
    problem = PROBLEM._replace(
        train_loss=lambda w, lam, batch, key: w * lam.sum() * batch["x"].mean(),
        valid_loss=lambda params, hyperparams, batch: params * batch["x"].mean(),
    )
    with pytest.raises(StopIteration):
        run(
            walk()._replace(step=step),
            problem=problem,
            data=data,
            train_batch_size=train,
            valid_batch_size=valid,
        )
    n, m = train or len(DATA.train), valid or len(DATA.valid)
    assert seen == [{"x": (2, n), "y": (2, n, 1)}, {"x": (m,), "y": (m, 1)}]


def test_every_draw_of_every_step_and_seed_is_another():
    def step(key, state, train_batches, valid_batch):
        drawn = train_batches.sum(), valid_batch.sum(), jax.random.uniform(key)
        state, info = walk().step(key, state, train_batches, valid_batch)
        return state._replace(hyperparams=jnp.stack(drawn)), info

    rows = np.random.default_rng(0).normal(size=999).astype(np.float32)
    result = run(
        walk()._replace(step=step),
        np.zeros(3, np.float32),
        data=DATA._replace(train=rows, valid=rows),
        steps=20,
        eval_every=1,
        inner_steps=1,
        valid_batch_size=3,
    )
    drawn = result.history.hyperparams[1:]
    assert len(np.unique(drawn)) == 20 * 2 * 3


def test_chunks_change_no_number(uninterrupted):
    by_sixes = run(eval_every=6)
    np.testing.assert_array_equal(by_sixes.history.step, [0, 6, 12])
    for field in ("gradient_evaluations", "valid_loss_on_train", "valid_loss", "hyperparams"):
        np.testing.assert_allclose(
            getattr(by_sixes.history, field),
            getattr(uninterrupted.history, field)[::3],
            rtol=1e-6,
        )


def test_a_seed_among_others_is_the_same_seed_alone(uninterrupted):
    alone = run(seeds=[5])
    for one, several in zip(
        jax.tree.leaves((alone.hyperparams, alone.params, alone.state)),
        jax.tree.leaves((uninterrupted.hyperparams, uninterrupted.params, uninterrupted.state)),
        strict=True,
    ):
        np.testing.assert_allclose(one[0], several[1], rtol=1e-6)
        assert len(several) == 2
    first, second = np.asarray(uninterrupted.hyperparams)
    assert np.all(first != second)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_seeds_that_take_turns_are_those_that_go_together(at_once):
    together = run(seeds=range(3))
    by_turns = run(seeds=range(3), seeds_at_once=at_once)
    timeless = (
        result._replace(history=result.history._replace(seconds=0), compile_seconds=0)
        for result in (by_turns, together)
    )
    chex.assert_trees_all_close(*timeless, rtol=1e-6)


def test_seeds_may_take_turns_from_a_resumed_run_on(uninterrupted, tmp_path):
    run(steps=4, workdir=tmp_path)
    resumed = run(workdir=tmp_path, resume=True, seeds_at_once=1)
    np.testing.assert_allclose(resumed.hyperparams, uninterrupted.hyperparams, rtol=1e-6)


def test_hyperparams_may_start_from_each_seeds_key():
    def start(key):
        assert key.shape == ()
        return {"decay": jax.random.normal(key, (3,)), "rest": jnp.zeros(())}

    def step(key, state, train_batches, valid_batch):
        before = state.hyperparams
        moved, info = walk().step(key, state._replace(hyperparams=0.0), train_batches, valid_batch)
        return moved._replace(hyperparams=jax.tree.map(lambda leaf: leaf + 1, before)), info

    problem = PROBLEM._replace(
        train_loss=lambda params, hyperparams, batch, key: params * optax.tree.sum(hyperparams)
    )
    method = walk()._replace(step=step)
    both, alone = (
        calm(method, start, problem=problem, seeds=seeds, steps=2).history.hyperparams["decay"]
        for seeds in ((1, 2), (2,))
    )
    assert both.shape == (2, 2, 3)
    assert len(np.unique(both[0])) == 6
    np.testing.assert_array_equal(both[0, 1], alone[0, 0])


def test_what_the_caller_holds_outlives_the_donated_buffers(uninterrupted):
    start = jnp.asarray(START)
    data = Data(*map(jnp.asarray, DATA))
    first = run(hyperparams=start, data=data)
    second = run(hyperparams=start, data=data)
    assert_identical(first, second)
    assert_identical(first, uninterrupted)
    np.testing.assert_array_equal(start, START)


def test_data_may_be_any_three_trees_of_arrays(uninterrupted):
    # As lists of NumPy arrays in double precision, which JAX takes in single.
    assert_identical(run(data=[split.astype(np.float64) for split in DATA]), uninterrupted)


@pytest.mark.parametrize(
    ("steps", "every", "evaluations"),
    [
        (1, 1, 1),
        (7, 1, 7),
        (100, 1, 100),
        (101, 2, 51),
        (150, 2, 75),
        (250, 5, 50),  # rather than 3, for a last chunk of 1 is compiled by itself
        (1002, 11, 92),
        (10_007, 101, 100),
    ],
)
def test_evaluations_are_about_a_hundred_by_default(steps, every, evaluations):
    names = "inner_steps", "checkpoint_every", "seeds_at_once"
    sizes = dict.fromkeys(names, 1) | NO_BATCHES
    plan = plans.plan(seeds=[0], steps=steps, eval_every=None, **sizes)
    assert plan.eval_every == every
    assert plan.evaluations(steps) == evaluations + 1


def test_the_last_chunk_may_be_shorter_and_changes_no_number(uninterrupted):
    result = run(eval_every=5)
    np.testing.assert_array_equal(result.history.step, [0, 5, 10, 12])
    for field in ("gradient_evaluations", "valid_loss", "hyperparams"):
        np.testing.assert_allclose(
            getattr(result.history, field)[-2:],
            getattr(uninterrupted.history, field)[[5, 6]],
            rtol=1e-6,
        )
    # The mean of 0 to 4, of 5 to 9, and of 10 and 11.
    np.testing.assert_allclose(result.history.hypergradient_norm[:, 0], [0, 2, 7, 10.5])


@pytest.mark.parametrize(
    ("steps", "every", "done", "sizes"),
    [
        (12, 5, 0, [2, 5]),
        (10, 5, 0, [5]),
        (3, 5, 0, [3]),
        (12, 5, 10, [2]),
        (20, 5, 12, [3, 5]),
        (22, 5, 12, [2, 3, 5]),
        (14, 5, 12, [2]),
        (12, 5, 12, []),
        (17, 5, 12, [2, 3]),
    ],
)
def test_only_chunks_that_are_needed_are_compiled(steps, every, done, sizes):
    plan = plans.Plan([0], steps, 1, None, None, every, 1, None)
    assert plan.chunks(done) == sizes
    seen = set()
    while done < steps:
        seen.add(plan.chunk(done))
        done += plan.chunk(done)
        assert done % every == 0 or done == steps
    assert sorted(seen) == sizes


SPACE = {"decay": hp.log(), "rest": hp.bounded(-1.0, 3.0)}
NATURAL = {"decay": np.array([3e-4, 10.0], np.float32), "rest": 2}


def in_a_space(**kwargs):
    """A walk of both numbers alike in unconstrained space."""

    def step(key, state, train_batches, valid_batch):
        before = state.hyperparams
        moved, info = walk().step(key, state._replace(hyperparams=0.0), train_batches, valid_batch)
        moved = moved._replace(hyperparams=jax.tree.map(lambda leaf: leaf + RATE, before))
        return moved, info

    def train_loss(params, hyperparams, batch, key):
        return params * (hyperparams["decay"].sum() + hyperparams["rest"])

    problem = PROBLEM._replace(train_loss=train_loss, space=SPACE)
    kwargs = {"hyperparams": NATURAL, "problem": problem, "steps": 2} | kwargs
    return calm(walk()._replace(step=step), **kwargs)


@pytest.mark.parametrize("made_by", ["tree", "function"])
def test_starts_and_results_are_in_natural_units(made_by):
    start = NATURAL if made_by == "tree" else lambda key: NATURAL
    result = in_a_space(hyperparams=start)
    history = result.history
    unit = 0.75  # of the way from -1 to 3
    np.testing.assert_allclose(
        history.unconstrained["decay"][0, 1], np.log(NATURAL["decay"]), rtol=1e-6
    )
    np.testing.assert_allclose(history.unconstrained["rest"][0], np.log(unit / (1 - unit)))
    np.testing.assert_allclose(history.hyperparams["decay"][0, 0], NATURAL["decay"], rtol=1e-5)
    moved = NATURAL["decay"] * np.exp(2 * RATE)
    np.testing.assert_allclose(result.hyperparams["decay"][1], moved, rtol=1e-5)
    np.testing.assert_allclose(result.hyperparams["rest"], history.hyperparams["rest"][-1])
    assert np.all(result.hyperparams["rest"] < 3)


def test_an_evaluation_reads_natural_units_and_the_state_of_the_model():
    def step(key, state, train_batches, valid_batch):
        state, info = walk().step(key, state, train_batches, valid_batch)
        return state._replace(hyperparams=state.hyperparams - 0.5), info

    problem = PROBLEM._replace(
        init=lambda key: (jnp.zeros(()), {"mean": jnp.zeros(3)}),
        train_loss=lambda w, lam, batch, key, state: (w * lam.sum(), state),
        valid_loss=lambda w, lam, batch, state: lam[0] * state["mean"][2],
        space=hp.log(),
        stateful=True,
    )
    method = walk()._replace(
        step=step, model_state=lambda state: {"mean": jnp.arange(3.0) + state.params}
    )
    result = calm(method, np.array([0.5, 2.0], "f"), problem=problem, steps=4, seeds=3)
    weights = 1 + 2 * 3.0 * result.history.step  # two batches a step, of mean 3
    natural = 0.5 * np.exp(-result.history.step * (0.5 + RATE))
    np.testing.assert_allclose(result.history.valid_loss, natural * (weights + 2), rtol=1e-5)
    np.testing.assert_allclose(result.model_state["mean"], np.arange(3) + weights[-1])


class Callable:
    """A tree that can be called, as Equinox modules and some flax structs can."""

    def __init__(self, decay):
        self.decay = decay

    def __call__(self, x):
        raise AssertionError("a tree was called")


jax.tree_util.register_pytree_node(
    Callable, lambda tree: ((tree.decay,), None), lambda _, children: Callable(*children)
)


def test_a_tree_that_can_be_called_is_a_tree():
    problem = PROBLEM._replace(
        train_loss=lambda params, hyperparams, batch, key: params * hyperparams.decay.sum()
    )

    def step(key, state, train_batches, valid_batch):
        plain = state._replace(hyperparams=state.hyperparams.decay)
        plain, info = walk().step(key, plain, train_batches, valid_batch)
        return plain._replace(hyperparams=Callable(plain.hyperparams)), info

    result = calm(walk()._replace(step=step), Callable(START), problem=problem, steps=2)
    np.testing.assert_allclose(result.hyperparams.decay[0], START - 2 * RATE, rtol=1e-6)


# --- progress -----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("progress", "stream", "shown"),
    [
        (None, io.StringIO, False),
        (None, Terminal, True),
        (False, Terminal, False),
        (True, io.StringIO, True),
    ],
)
def test_progress_is_for_terminals_and_those_who_ask(monkeypatch, capsys, progress, stream, shown):
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    result = calm(progress=progress)
    assert capsys.readouterr().out == ""
    if not shown:
        assert stderr.getvalue() == ""
        return
    last = stderr.getvalue().split("\r")[-1]
    assert "12/12" in last
    assert re.search(r"steps/s|s/ steps", last)
    assert f"train={result.history.valid_loss_on_train[-1].mean():.4g}" in last
    assert f"valid={result.history.valid_loss[-1].mean():.4g}" in last


def test_progress_of_a_resumed_run_starts_where_it_was(monkeypatch, tmp_path):
    calm(workdir=tmp_path, steps=8)
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    calm(workdir=tmp_path, resume=True)
    first = stderr.getvalue().split("\r")[1]
    assert "8/12" in first


def test_more_hyperparameters_than_validation_examples_are_named_once(caplog):
    health._say_once.cache_clear()
    run()
    assert not caplog.records
    for _ in range(2):
        run(hyperparams=np.array([0.1, 0.2, 0.3], np.float32))
    assert [record.getMessage()[:58] for record in caplog.records] == [
        "fit() tunes 3 hyperparameters on 2 validation examples, wh"
    ]
