"""The driver: its history against NumPy, its refusals, and runs stopped in every way there is."""

import contextlib
import errno
import io
import json
import os
import pathlib
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from shohypernet import (
    HyperOptimizer,
    Info,
    Problem,
    global_response,
    hypernets,
    local_response,
    supervised,
    unrolled,
)
from shohypernet.batches import Data, Examples
from shohypernet.fitting import _history as histories
from shohypernet.fitting import _plan as plans
from shohypernet.fitting import fit
from shohypernet.fitting._driver import NonFiniteLoss
from shohypernet.fitting._run_directory import RunDirectory
from shohypernet.fitting._signals import Interrupted
from shohypernet.hyperparameters import gaussian, local_gaussian
from shohypernet.losses import mean_squared_error
from shohypernet.models import MLP

# --- a problem and a method small enough for their answers to be worked out ---------------------

DATA = Data(
    train=np.array([1.0, 2.0, 3.0, 6.0], np.float32),
    valid=np.array([0.5, 1.5], np.float32),
    test=np.array([4.0], np.float32),
)
START = np.array([0.25, -0.5], np.float32)
RATE = 0.125

# L_train = w·Σλ·x̄ and L_valid = w·x̄, with one number w for the weights.
PROBLEM = Problem(
    init=lambda key: jnp.zeros(()),
    train_loss=lambda params, hyperparams, batch, key: params * hyperparams.sum() * batch.mean(),
    valid_loss=lambda params, hyperparams, batch: params * batch.mean(),
)


class WalkState(NamedTuple):
    hyperparams: Any
    params: Any
    number: Any  # drawn when the state was made
    steps: Any


def walk(noise=0.0, on_step=lambda state, info: (state, info)):
    """λ̂ ← λ̂ − rate·x̄_valid + noise, w ← w + x̄_train for each training batch."""

    def init(key, hyperparams):
        number = jax.random.uniform(key)
        return WalkState(hyperparams, jnp.ones(()), number, jnp.zeros((), jnp.int32))

    def step(key, state, train_batches, valid_batch):
        moved = state.hyperparams - RATE * valid_batch.mean() + noise * jax.random.normal(key)
        info = Info(
            train_loss=train_batches.mean(),
            valid_loss=valid_batch.mean(),
            hypergradient_norm=state.steps.astype(float),
            gradient_evaluations=jnp.asarray(train_batches.shape[0] + 1),
        )
        params = state.params + train_batches.mean(1).sum()
        return on_step(WalkState(moved, params, state.number, state.steps + 1), info)

    return HyperOptimizer(init, step, lambda state: state.params)


NO_BATCHES = {"train_batch_size": None, "valid_batch_size": None}


def run(method=None, hyperparams=START, *, problem=PROBLEM, data=DATA, steps=12, **kwargs):
    """A run that uses every source of randomness, unless told otherwise."""
    kwargs = {
        "seeds": (0, 5),
        "inner_steps": 2,
        "train_batch_size": 3,
        "valid_batch_size": 1,
        "eval_every": 2,
        "checkpoint_every": 2,
    } | kwargs
    return fit(problem, method or walk(noise=0.1), data, hyperparams, steps=steps, **kwargs)


def calm(method=None, *arguments, **kwargs):
    """A run that uses none in its steps, and so is soon compiled."""
    return run(method or walk(), *arguments, **NO_BATCHES | kwargs)


def assert_identical(result, expected):
    """Bit for bit, but for what the clock says."""
    timeless = [
        (r.hyperparams, r.params, r.state, r.history._replace(seconds=None))
        for r in (result, expected)
    ]
    chex.assert_trees_all_equal_shapes_and_dtypes(*timeless)
    for leaf, other in zip(*map(jax.tree.leaves, timeless), strict=True):
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()


def logged(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """What one test compiles, the others load: compiling is most of what these tests would do."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    former = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, former):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield


@pytest.fixture(scope="module")
def calm_result(compiled_once):
    return calm()


@pytest.fixture(scope="module")
def uninterrupted(compiled_once):
    return run()


# --- what comes back ----------------------------------------------------------------------------


def test_history_is_as_worked_out_by_hand():
    inner_steps, steps, every = 3, 6, 2
    result = calm(steps=steps, eval_every=every, inner_steps=inner_steps)
    history = result.history

    done = np.arange(0, steps + 1, every)
    weights = 1 + done * inner_steps * 3.0  # 3 is the mean of the training examples
    np.testing.assert_array_equal(history.step, done)
    for loss, mean in (
        (history.train_loss, 3.0),
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
    for field in ("gradient_evaluations", "train_loss", "valid_loss", "hyperparams"):
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
        same = state.hyperparams
        moved, info = walk().step(key, state._replace(hyperparams=0.0), train_batches, valid_batch)
        return moved._replace(hyperparams=same), info

    problem = PROBLEM._replace(
        train_loss=lambda params, hyperparams, batch, key: params * optax.tree.sum(hyperparams)
    )
    method = walk()._replace(step=step)
    decays = calm(method, start, problem=problem, seeds=(1, 2), steps=2).history.hyperparams[
        "decay"
    ]
    again = calm(method, start, problem=problem, seeds=(2,), steps=2).history.hyperparams["decay"]
    assert decays.shape == (2, 2, 3)
    assert len(np.unique(decays[0])) == 6
    np.testing.assert_array_equal(decays[0, 1], again[0, 0])


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
    ("steps", "every"),
    [(1, 1), (7, 1), (100, 1), (101, 101), (150, 2), (250, 5), (1000, 10), (1002, 167)],
)
def test_evaluations_are_a_hundred_at_most_by_default(steps, every):
    names = "inner_steps", "checkpoint_every", "seeds_at_once"
    sizes = dict.fromkeys(names, 1) | NO_BATCHES
    assert plans.plan(seeds=[0], steps=steps, eval_every=None, **sizes).eval_every == every


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
    assert f"train={result.history.train_loss[-1].mean():.4g}" in last
    assert f"valid={result.history.valid_loss[-1].mean():.4g}" in last


def test_progress_of_a_resumed_run_starts_where_it_was(monkeypatch, tmp_path):
    calm(workdir=tmp_path, steps=8)
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    calm(workdir=tmp_path, resume=True)
    first = stderr.getvalue().split("\r")[1]
    assert "8/12" in first


# --- refusals -----------------------------------------------------------------------------------


def untouchable(*arguments):
    raise AssertionError("traced before it was refused")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"steps": 0}, "steps to be a whole number >= 1, got 0"),
        ({"steps": -2}, "steps to be a whole number >= 1, got -2"),
        ({"steps": 2.0}, "steps to be a whole number >= 1, got 2.0"),
        ({"steps": None}, "steps to be a whole number >= 1, got None"),
        ({"steps": True}, "steps to be a whole number >= 1, got True"),
        ({"inner_steps": 0}, "inner_steps to be a whole number >= 1, got 0"),
        ({"inner_steps": None}, "inner_steps to be a whole number >= 1, got None"),
        ({"train_batch_size": 0}, "train_batch_size to be a whole number >= 1, got 0"),
        ({"valid_batch_size": "8"}, "valid_batch_size to be a whole number >= 1, got '8'"),
        ({"eval_every": 0}, "eval_every to be a whole number >= 1, got 0"),
        ({"seeds_at_once": 0}, "seeds_at_once to be a whole number >= 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every to be a whole number >= 1, got 0"),
        ({"steps": 10, "eval_every": 4}, "eval_every=4 must divide steps=10; 12 steps would do"),
        ({"steps": 3, "eval_every": 4}, "eval_every=4 must divide steps=3; 4 steps would do"),
        ({"seeds": ()}, r"one seed or more.*got \[\]"),
        ({"seeds": (1, 2, 1)}, r"each once.*got \[1, 2, 1\]"),
        ({"seeds": (0.5,)}, r"whole number.*got \[0.5\]"),
        ({"seeds": (-1,)}, r"from 0 to 4294967295, got \[-1\]"),
        # JAX would take it for another 0.
        ({"seeds": (0, 2**32)}, r"from 0 to 4294967295, got \[0, 4294967296\]"),
        ({"resume": True, "workdir": None}, "only a run that has a workdir"),
        ({"data": DATA._asdict()}, "three splits.*got <class 'dict'>"),
        ({"data": DATA[:2]}, "three splits"),
        ({"data": DATA._replace(valid=())}, r"data.valid need.*have shapes \[\]"),
        ({"data": DATA._replace(test=np.zeros((0, 3)))}, r"data.test need.*\[\(0, 3\)\]"),
        ({"data": DATA._replace(train=(np.zeros(3), np.zeros(4)))}, r"data.train need.*\(4,\)"),
        ({"data": DATA._replace(train=(np.zeros(3), 1.0))}, r"data.train need.*\[\(3,\), \(\)\]"),
        ({"hyperparams": 3}, "hyperparameter λ̂ starts as int32.*start from floats"),
        ({"hyperparams": {"width": np.arange(3)}}, r"hyperparameter \['width'\] starts as int"),
        ({"hyperparams": {}}, "needs hyperparameters to start from, got {}"),
        ({"hyperparams": np.nan}, "hyperparameter λ̂ starts as nan, but must be finite"),
        (
            {"hyperparams": {"decay": np.array([0.0, -np.inf]), "rest": 0.0}},
            r"hyperparameter \['decay'\] starts as \[  0. -inf\], but must be finite.*logarithm",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_traced_or_written(asked, message, tmp_path):
    method = HyperOptimizer(untouchable, untouchable, untouchable)
    problem = Problem(untouchable, untouchable, untouchable)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        calm(method, **{"problem": problem, "workdir": tmp_path / "run", **asked})
    assert not (tmp_path / "run").exists()


def test_a_start_from_keys_must_be_floats_too(tmp_path):
    with pytest.raises(ValueError, match=r"hyperparameter \['a'\] starts as uint32"):
        calm(hyperparams=lambda key: {"a": jax.random.bits(key)}, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "returned", "came"),
    [
        ("train_loss", lambda batch: batch, r"float32\[4\]"),
        ("valid_loss", lambda batch: batch, r"float32\[2\]"),
        ("train_loss", lambda batch: batch.sum().astype(int), r"int32\[\]"),
        ("valid_loss", lambda batch: None, "None"),
        ("train_loss", lambda batch: (batch.sum(), batch), r"\('float32\[\]', 'float32\[4\]'\)"),
    ],
)
def test_losses_must_be_floating_scalars(name, returned, came, tmp_path):
    if name == "train_loss":
        problem = PROBLEM._replace(train_loss=lambda w, hyperparams, batch, key: returned(batch))
    else:
        problem = PROBLEM._replace(valid_loss=lambda w, hyperparams, batch: returned(batch))
    method = walk()._replace(step=untouchable)
    message = f"problem.{name} must return a floating-point scalar, got {came}"
    with pytest.raises(ValueError, match=message):
        calm(method, problem=problem, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_hypernet_made_for_another_model_is_refused(tmp_path):
    inputs, targets = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    split = Examples(inputs, targets)
    problem = supervised(MLP(2), inputs, mean_squared_error, lambda params, values: 0.0 * values)
    other = jax.eval_shape(MLP(5).init, jax.random.key(0), inputs)["params"]
    method = local_response(
        problem,
        hypernets.linear(other),
        hypernet_optimizer=optax.sgd(0.1),
        hyper_optimizer=optax.sgd(0.1),
        sampler=local_gaussian(0.1),
    )
    with pytest.raises(ValueError, match=r"(?s)not like those of problem.init.*3, 5.*3, 2"):
        calm(method, 0.5, problem=problem, data=(split, split, split), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "tune",
    [
        lambda problem, params: local_response(
            problem,
            hypernets.linear(params),
            hypernet_optimizer=optax.sgd(0.1),
            hyper_optimizer=optax.sgd(0.1),
            sampler=local_gaussian(0.1),
        ),
        lambda problem, params: unrolled(
            problem, optimizer=optax.sgd(0.1), hyper_optimizer=optax.sgd(0.1)
        ),
    ],
    ids=["by a hypernet", "by training"],
)
@pytest.mark.parametrize("jitted", [False, True])
def test_a_hyperparameter_that_nothing_reads_is_refused(tune, jitted, tmp_path):
    problem = decayed(jitted)
    method = tune(problem, jax.eval_shape(problem.init, jax.random.key(0)))
    with pytest.raises(ValueError, match=r"^hyperparameter rate enters neither loss, .*unrolled"):
        calm(method, RATES, problem=problem, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_hyperparameter_that_the_inner_optimizer_reads_is_tuned():
    problem = decayed(jitted=True)
    method = unrolled(
        problem,
        optimizer=lambda lam: optax.sgd(jnp.exp(lam["rate"])),
        hyper_optimizer=optax.sgd(0.1),
    )
    history = calm(method, RATES, problem=problem, steps=2).history
    assert np.all(history.hyperparams["rate"][-1] != RATES["rate"])


RATES = {"decay": -1.0, "rate": -2.0}


def decayed(jitted):
    """A problem with a decay, given a step size for whoever reads it."""

    def train_loss(w, lam, batch, key):
        return jnp.mean((w - batch) ** 2) + jnp.exp(lam["decay"]) * w**2

    return Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=jax.jit(train_loss) if jitted else train_loss,
        valid_loss=lambda w, lam, batch: jnp.mean((w - batch) ** 2),
    )


def test_a_config_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"as JSON can hold it.*PosixPath"):
        calm(workdir=tmp_path / "run", config={"rate": np.float32(0.5), "at": pathlib.Path("here")})
    assert not (tmp_path / "run").exists()


def test_a_workdir_is_refused_before_the_steps_are_traced(tmp_path):
    calm(workdir=tmp_path / "mine")
    before = files(tmp_path)
    method = walk()._replace(step=untouchable)
    (tmp_path / "file").write_text("someone's")
    with pytest.raises(FileExistsError, match=r"already holds a run.*resume=True"):
        calm(method, workdir=tmp_path / "mine")
    with pytest.raises(NotADirectoryError):
        calm(method, workdir=tmp_path / "file" / "below")
    with pytest.raises(FileNotFoundError, match="holds no run to resume"):
        calm(method, workdir=tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").unlink()
    assert files(tmp_path) == before


def test_a_run_that_never_began_leaves_its_workdir_free(tmp_path):
    with pytest.raises(AssertionError, match="traced"):
        calm(walk()._replace(step=untouchable), workdir=tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        calm(workdir=tmp_path, resume=True)
    calm(workdir=tmp_path)


# --- losses that are not finite -----------------------------------------------------------------


def at_step(number, change):
    """What a walk does at one step only."""

    def on_step(state, info):
        changed = change(state, info)
        now = state.steps == number
        return jax.tree.map(lambda new, old: jnp.where(now, new, old), changed, (state, info))

    return on_step


@pytest.mark.parametrize(("field", "value"), [("train_loss", np.nan), ("valid_loss", np.inf)])
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(field, value, calm_result, tmp_path):
    method = walk(
        on_step=at_step(7, lambda state, info: (state, info._replace(**{field: value}))),
    )
    with pytest.raises(
        NonFiniteLoss, match=r"step 7, seeds \[0, 5\].*checkpoint of step 4 is kept"
    ):
        calm(method, workdir=tmp_path)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6]
    # Whoever goes on from the checkpoint meets the same loss at the same step.
    with pytest.raises(NonFiniteLoss, match="step 7"):
        calm(method, workdir=tmp_path, resume=True)
    result = calm(workdir=tmp_path, resume=True)
    assert_identical(result, calm_result)


def test_only_the_seeds_that_went_wrong_are_named():
    numbers = calm(seeds=range(4), steps=2).state.number
    threshold = float(np.sort(numbers)[2])

    def spoil(state, info):
        spoilt = jnp.where(state.number < threshold, jnp.nan, info.train_loss)
        return state, info._replace(train_loss=spoilt)

    expected = np.flatnonzero(numbers < threshold).tolist()
    with pytest.raises(NonFiniteLoss, match=re.escape(f"step 3, seeds {expected}. No checkpoint")):
        calm(walk(on_step=at_step(3, spoil)), seeds=range(4))


def test_a_loss_that_only_an_evaluation_finds_stops_the_run(tmp_path):
    # The steps never see the test split, nor the weights after the chunk's last step.
    problem = PROBLEM._replace(
        valid_loss=lambda params, hyperparams, batch: jnp.where(
            (params > 30) & (batch.shape == (1,)), jnp.inf, params
        )
    )
    weights = calm(problem=problem, steps=2, seeds=[0], eval_every=1).history.valid_loss
    assert weights[-1] < 30
    with pytest.raises(NonFiniteLoss, match=r"step \d*[02468], seeds"):
        calm(problem=problem, workdir=tmp_path, steps=40)


def test_bad_values_in_data_are_found_before_the_first_step(tmp_path):
    data = DATA._replace(valid=np.array([0.5, -np.inf], "f"), test=np.array([np.nan], "f"))
    with pytest.raises(
        NonFiniteLoss, match=r"step 0, seeds \[0, 5\]. No .* data.valid, data.test holds NaN or inf"
    ):
        calm(walk()._replace(step=untouchable), data=data, workdir=tmp_path)
    calm(workdir=tmp_path)  # nothing stands in the way


def test_a_start_from_keys_that_is_not_finite_is_found_before_the_first_step():
    with pytest.raises(NonFiniteLoss, match="hyperparameter is not finite at step 0"):
        calm(walk()._replace(step=untouchable), lambda key: jnp.full(2, jnp.nan))


def test_bad_values_that_no_loss_lets_through_do_no_harm(calm_result):
    problem = PROBLEM._replace(
        valid_loss=lambda params, hyperparams, batch: params * jnp.nanmean(batch)
    )
    data = DATA._replace(test=np.array([4.0, np.nan], np.float32))
    result = calm(problem=problem, data=data)
    np.testing.assert_allclose(result.history.test_loss, calm_result.history.test_loss, rtol=1e-6)


def test_a_loss_that_is_not_finite_from_the_start_is_told_so():
    problem = PROBLEM._replace(
        valid_loss=lambda params, hyperparams, batch: jnp.log(params - 2) * batch.mean()
    )
    with pytest.raises(NonFiniteLoss, match=r"step 0, .*No step was taken yet, so a loss itself"):
        calm(walk()._replace(step=untouchable), problem=problem)


def test_hyperparams_that_are_not_finite_stop_the_run():
    method = walk(
        on_step=at_step(
            12, lambda state, info: (state._replace(hyperparams=state.hyperparams / 0), info)
        )
    )
    with pytest.raises(NonFiniteLoss, match="step 12"):
        calm(method)


# --- stopped and resumed ------------------------------------------------------------------------


def test_a_run_on_disk_is_the_run_in_memory(uninterrupted, tmp_path):
    result = run(workdir=tmp_path / "new" / "folder")
    assert_identical(result, uninterrupted)
    history = result.history
    assert [line.pop("step") for line in logged(tmp_path / "new" / "folder")] == [
        0, 2, 4, 6, 8, 10, 12,
    ]  # fmt: skip
    for name in set(history._fields) - {"hyperparams"}:
        column = [line[name] for line in logged(tmp_path / "new" / "folder")]
        np.testing.assert_array_equal(np.array(column), getattr(history, name))


@pytest.mark.parametrize("first", [2, 4, 10])
def test_a_resumed_run_is_the_uninterrupted_one(first, uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=first, checkpoint_every=3)
    resumed = run(workdir=tmp_path, resume=True)
    assert_identical(resumed, uninterrupted)
    assert np.all(np.diff(resumed.history.seconds) > 0)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6, 8, 10, 12]


def test_a_resumed_hyper_training_is_the_uninterrupted_one(tmp_path):
    rng = np.random.default_rng(0)
    data = [
        Examples(rng.normal(size=(n, 3)).astype("f"), rng.normal(size=(n, 2)).astype("f"))
        for n in (12, 9, 7)
    ]
    problem = supervised(
        MLP(2),
        data[0].inputs,
        mean_squared_error,
        lambda params, values: jnp.exp(values) * optax.tree.norm(params, squared=True),
    )
    # Its first phase ends in the chunk after the checkpoint.
    method = global_response(
        problem,
        hypernets.mlp(jax.eval_shape(problem.init, jax.random.key(0)), (4,)),
        hypernet_optimizer=optax.adam(optax.exponential_decay(0.01, 3, 0.9)),
        hyper_optimizer=optax.adam(0.02),
        sampler=gaussian(),
        hypernet_rounds=5,
    )

    def some(steps, folder, **kwargs):
        return run(
            method,
            jax.random.normal,
            problem=problem,
            data=data,
            steps=steps,
            eval_every=4,
            workdir=tmp_path / folder,
            **kwargs,
        )

    whole = some(8, "whole")
    some(4, "parts")
    assert_identical(some(8, "parts", resume=True), whole)
    moved = whole.history.hyperparams[1:] != whole.history.hyperparams[:-1]
    np.testing.assert_array_equal(moved, [[False, False], [True, True]])


def test_a_finished_run_is_read_and_not_run(uninterrupted, tmp_path):
    run(workdir=tmp_path)
    before = files(tmp_path)
    again = run(
        walk()._replace(step=untouchable), workdir=tmp_path, resume=True, checkpoint_every=1
    )
    assert_identical(again, uninterrupted)
    assert files(tmp_path) == before


def test_a_resumed_run_keeps_its_eval_every(tmp_path):
    calm(workdir=tmp_path, steps=150, eval_every=None, checkpoint_every=100)
    history = calm(workdir=tmp_path, steps=250, eval_every=None, resume=True).history
    np.testing.assert_array_equal(history.step, np.arange(0, 251, 2))
    with pytest.raises(ValueError, match="eval_every=2 must divide steps=251; 252 steps"):
        calm(workdir=tmp_path, steps=251, eval_every=None, resume=True)


def test_a_resumed_run_cannot_do_fewer_steps(tmp_path):
    calm(workdir=tmp_path)
    with pytest.raises(ValueError, match="has done 12 steps, more than steps=10"):
        calm(workdir=tmp_path, steps=10, resume=True)
    calm(workdir=tmp_path, resume=True)  # and is not left locked


def test_another_run_is_not_resumed_and_each_difference_is_named(tmp_path):
    calm(workdir=tmp_path, config={"rate": 0.1, "net": {"hidden": (4, 4), "bias": True}})
    before = files(tmp_path)
    with pytest.raises(ValueError, match="holds another run") as refused:
        calm(
            walk(),
            START[:1],
            data=DATA._replace(valid=DATA.valid + 1),
            workdir=tmp_path,
            resume=True,
            seeds=[0, 6],
            inner_steps=3,
            train_batch_size=3,
            eval_every=4,
            config={"rate": 0.2, "net": {"hidden": [4, 4]}, "new": None},
        )
    named = re.findall(r"^  ([\w.]+): was (.*), is (.*)$", str(refused.value), re.MULTILINE)
    differences = {name: (was, now) for name, was, now in named}
    crc = {name: differences.pop(name) for name in ("data.valid", "hyperparams.")}
    assert differences == {
        "seeds": ("[0, 5]", "[0, 6]"),
        "inner_steps": ("2", "3"),
        "train_batch_size": ("None", "3"),
        "eval_every": ("2", "4"),
        "config.rate": ("0.1", "0.2"),
        "config.net.bias": ("True", "'absent'"),
        "config.new": ("'absent'", "None"),
        "state.hyperparams": ("'float32[2, 2]'", "'float32[2, 1]'"),
    }
    assert all(was != now for was, now in crc.values())
    assert files(tmp_path) == before


def test_numpy_numbers_are_numbers_like_any_other(uninterrupted, tmp_path):
    run(
        workdir=tmp_path,
        steps=np.int64(4),
        seeds=np.array([0, 5]),
        train_batch_size=np.int32(3),
        config={"rate": np.float32(0.5), "width": np.int64(3)},
    )
    resumed = run(workdir=tmp_path, resume=True, config={"rate": 0.5, "width": 3})
    assert_identical(resumed, uninterrupted)


def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=8)
    newest = tmp_path / "checkpoints" / "8"
    blob = max(newest.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="step 8 is damaged.*resumes from step 4") as caught:
        resumed = run(workdir=tmp_path, resume=True)
    assert pathlib.Path(caught[0].filename).name == pathlib.Path(__file__).name
    assert_identical(resumed, uninterrupted)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6, 8, 10, 12]
    assert [path for path in files(tmp_path) if path.read_bytes() == bytes(content)]


def test_a_log_that_a_crash_left_behind_is_made_whole(uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=8)
    log = tmp_path / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    # It got further than the last checkpoint, and died in the midst of a line.
    log.write_text("".join(lines) + lines[-1].replace('"step": 8', '"step": 10') + lines[-1][:-9])
    resumed = run(workdir=tmp_path, resume=True)
    assert_identical(resumed, uninterrupted)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6, 8, 10, 12]


def test_a_run_that_died_before_its_first_checkpoint_starts_anew(uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=2)
    (tmp_path / "checkpoints" / "2").rename(tmp_path / "checkpoints" / "draft")
    resumed = run(workdir=tmp_path, resume=True)
    assert_identical(resumed, uninterrupted)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), ValueError("OUT_OF_RANGE: No space left")]
)
def test_a_full_disk_is_told_and_spares_the_checkpoint_before(
    error, uninterrupted, tmp_path, monkeypatch
):
    def save(checkpointer, path, tree):
        path.mkdir(parents=True)
        (path / "half").write_bytes(b"half of it")
        raise error

    run(workdir=tmp_path, steps=4)
    before = files(tmp_path / "checkpoints" / "4")
    with monkeypatch.context() as patch:
        patch.setattr(ocp.Checkpointer, "save", save)
        with pytest.raises(OSError, match=r"step 8 can't .* last is that of step 4.*No space left"):
            run(workdir=tmp_path, resume=True)
    assert files(tmp_path / "checkpoints" / "4") == before
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)
    assert not (tmp_path / "checkpoints" / "draft").exists()


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="has no disk that is full")
def test_a_log_that_finds_the_disk_full_spares_the_checkpoints(
    uninterrupted, tmp_path, monkeypatch
):
    def fill(record):
        if record.step == 6:
            (tmp_path / "metrics.jsonl").unlink()
            (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
        return summary(record)

    summary = histories.summary
    with monkeypatch.context() as patch:
        patch.setattr(histories, "summary", fill)
        with pytest.raises(OSError, match="No space left"):
            run(workdir=tmp_path)
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6, 8, 10, 12]


def test_no_pickle_is_loaded_on_the_way(uninterrupted, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a pickle was loaded")

    for name in ("load", "loads", "Unpickler", "_load", "_loads", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    run(workdir=tmp_path, steps=6)
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)


@pytest.mark.parametrize("method", ["hyper-training", "unrolled"])
def test_dtypes_may_differ_and_each_stays_its_own(method, tmp_path):
    params = {"half": jnp.zeros((), jnp.bfloat16), "single": jnp.zeros(())}
    start = {"half": np.zeros((), np.float16), "single": np.zeros((), np.float32)}
    dtypes = jax.tree.map(jnp.result_type, (start, params))

    def residual(w, batch):
        return jnp.mean((w["half"] * batch["x"] + w["single"] - batch["y"]) ** 2)

    def train_loss(w, lam, batch, key):
        decays = jax.tree.map(lambda a, b: jnp.exp(a) * b**2, lam, w)
        return residual(w, batch) + decays["half"] + decays["single"]

    problem = Problem(
        lambda key: jax.tree.map(jnp.ones_like, params),
        train_loss,
        lambda w, lam, batch: residual(w, batch),
    )
    sgd = optax.sgd(0.1)
    methods = {
        "hyper-training": lambda: local_response(
            problem,
            hypernets.linear(params),
            hypernet_optimizer=sgd,
            hyper_optimizer=sgd,
            sampler=local_gaussian(0.1),
        ),
        "unrolled": lambda: unrolled(problem, optimizer=sgd, hyper_optimizer=sgd),
    }
    rows = {"x": np.arange(4, dtype=np.uint8), "y": np.linspace(0, 1, 4, dtype=np.float16)}
    for resume, steps in ((False, 2), (True, 4)):
        result = calm(
            methods[method](),
            start,
            problem=problem,
            data=(rows, rows, rows),
            steps=steps,
            seeds=[0],
            workdir=tmp_path,
            resume=resume,
        )
    assert jax.tree.map(jnp.result_type, (result.hyperparams, result.params)) == dtypes
    assert all(np.all(leaf[-1] != 0) for leaf in jax.tree.leaves(result.history.hyperparams))


def test_a_state_may_hold_random_keys(tmp_path):
    class Keyed(NamedTuple):
        hyperparams: Any
        key: Any

    def step(key, state, train_batches, valid_batch):
        key, now = jax.random.split(state.key)
        info = Info(jnp.ones(()), jnp.ones(()), jnp.ones(()), jnp.ones((), int))
        return Keyed(state.hyperparams + jax.random.normal(now), key), info

    method = HyperOptimizer(
        lambda key, hyperparams: Keyed(hyperparams, key), step, lambda state: jnp.ones(())
    )
    whole = run(method, steps=4)
    run(method, steps=2, workdir=tmp_path)
    resumed = run(method, steps=4, workdir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.hyperparams, whole.hyperparams)
    np.testing.assert_array_equal(*(jax.random.key_data(r.state.key) for r in (resumed, whole)))


# --- asked to stop ------------------------------------------------------------------------------


def signal_at(monkeypatch, step, *numbers):
    """Sends this process signals as the driver makes the record of a step."""
    after = histories.after

    def signalling(last, *arguments):
        record = after(last, *arguments)
        if record.step == step:
            for number in numbers:
                signal.raise_signal(number)
        return record

    monkeypatch.setattr(histories, "after", signalling)


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Even where these tests are a shell's background job, which is started to ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 6, 12])
def test_a_run_that_is_asked_to_stop_saves_first(
    number, step, uninterrupted, tmp_path, monkeypatch, capfd
):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        signal_at(patch, step, number)
        with pytest.raises(
            Interrupted, match=rf"stopped at step {step} of 12.*resume=True"
        ) as stop:
            run(workdir=tmp_path, checkpoint_every=100)
    assert stop.value.signal_number == number
    assert str(tmp_path) in str(stop.value)
    assert "once more stops at once" in capfd.readouterr().err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(step)]
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)


def test_a_signal_during_the_last_checkpoint_is_not_lost(uninterrupted, tmp_path, monkeypatch):
    save = RunDirectory.save

    def signalling(directory, step, tree):
        signal.raise_signal(signal.SIGTERM)
        save(directory, step, tree)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save", signalling)
        with pytest.raises(Interrupted, match="step 12 of 12"):
            run(workdir=tmp_path, checkpoint_every=100)
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)


def test_a_second_ctrl_c_stops_at_once(uninterrupted, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signal_at(patch, 6, signal.SIGINT, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as stop:
            run(workdir=tmp_path)
    assert stop.type is KeyboardInterrupt
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)


def test_without_a_workdir_ctrl_c_is_a_plain_keyboard_interrupt(monkeypatch):
    signal_at(monkeypatch, 6, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stop:
        run()
    assert stop.type is KeyboardInterrupt


# --- other processes ----------------------------------------------------------------------------


def longer(workdir, **kwargs):
    return calm(walk(noise=0.1), steps=120, workdir=workdir, **kwargs)


def hold_at(number):
    """From now on a run logs slowly, and at one step it waits for a signal that it notes."""
    log = RunDirectory.log

    def log_and_hold(directory, record):
        log(directory, record)
        time.sleep(0.01)
        while record["step"] == number and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            time.sleep(0.01)

    RunDirectory.log = log_and_hold


@contextlib.contextmanager
def at_work(workdir, *, hold, resume=False):
    """This file as a program, once its run in that folder has got to step `hold`."""
    command = [sys.executable, __file__, str(workdir), "--hold", str(hold)]
    command += ["--resume"] * resume
    log = workdir / "metrics.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (
            log.exists() and f'{{"step": {hold}, ' in log.read_text()
        ):
            time.sleep(0.01)
        yield process
        process.kill()


@pytest.fixture(scope="module")
def longer_result(compiled_once):
    return longer(None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_asked_to_stop_saves_and_says_how_to_go_on(
    number, longer_result, tmp_path
):
    with at_work(tmp_path, hold=6) as process:
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode != 0
    assert (
        errors.strip()
        .splitlines()[-1]
        .endswith(
            f"Interrupted: stopped at step 6 of 120 and saved in {tmp_path}; "
            "run the same again with resume=True (--resume) to go on."
        )
    )
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6]
    assert_identical(longer(tmp_path, resume=True), longer_result)


def test_a_program_that_is_killed_goes_on_from_its_last_checkpoint(longer_result, tmp_path):
    with at_work(tmp_path, hold=8) as process:
        process.kill()
        process.wait()
    # It had logged step 8, and was about to save it.
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 6, 8]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    with at_work(tmp_path, hold=100, resume=True) as process:
        assert (tmp_path / "checkpoints" / "96").exists()
        with pytest.raises(BlockingIOError):
            longer(tmp_path, resume=True)
        process.kill()
        process.wait()
    assert_identical(longer(tmp_path, resume=True), longer_result)
    assert [line["step"] for line in logged(tmp_path)] == list(range(0, 121, 2))


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a new program for each kill takes minutes"
)
def test_a_run_killed_twenty_times_is_the_uninterrupted_one(longer_result, tmp_path):
    settings = {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "OPENBLAS_NUM_THREADS": "1",  # or it has threads before it forks
    }
    command = [sys.executable, __file__, str(tmp_path), "--kills", "20"]
    done = subprocess.run(
        command, env=os.environ | settings, check=True, stdout=subprocess.PIPE, text=True
    )
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    assert [number for number, _ in deaths] == [signal.SIGKILL] * 20
    assert any(while_saving for _, while_saving in deaths)
    assert_identical(longer(tmp_path, resume=True), longer_result)
    assert [line["step"] for line in logged(tmp_path)] == list(range(0, 121, 2))


def killed(workdir, times):
    """The run, killed and resumed; prints of each kill by which signal, and if during a checkpoint.

    Forked from a process that has imported JAX, which takes most of a program's time, but hasn't
    used it yet and so has but one thread: of several, a child would lack what the others hold.
    """
    assert len(os.listdir("/proc/self/task")) == 1, "something here uses JAX as it is imported"
    for number in range(times):
        heard, told = os.pipe()
        child = os.fork()
        if not child:
            for name in ("begin", "save"):
                setattr(RunDirectory, name, telling(told, getattr(RunDirectory, name)))
            longer(workdir, resume=(workdir / "run.json").exists())
            os._exit(0)
        os.close(told)
        # Before it begins, just after, or just after it begins to save, by turns.
        told_first = number % 3
        for _ in range(told_first):
            os.read(heard, 1)
        time.sleep(random.uniform(0, 0.05 if told_first else 1))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        while_saving = (workdir / "checkpoints" / "draft").exists()
        print(json.dumps([os.WTERMSIG(status), while_saving]), flush=True)
        os.close(heard)


def telling(told, function):
    def tell_first(*arguments):
        os.write(told, b".")
        return function(*arguments)

    return tell_first


if __name__ == "__main__":
    folder, option, number = pathlib.Path(sys.argv[1]), *sys.argv[2:4]
    hold_at(int(number) if option == "--hold" else None)
    if option == "--kills":
        killed(folder, int(number))
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        longer(folder, resume="--resume" in sys.argv)
