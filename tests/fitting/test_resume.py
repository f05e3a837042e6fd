"""Runs on disk: stopped, damaged, and resumed bit for bit."""

import errno
import pathlib
import pickle
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from walks import (
    DATA,
    START,
    assert_identical,
    calm,
    files,
    logged,
    run,
    steps_logged,
    untouchable,
    walk,
)

import shohypernet
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
from shohypernet.batches import Examples
from shohypernet.fitting import _history as histories
from shohypernet.hyperparameters import log
from shohypernet.losses import mean_squared_error
from shohypernet.models import MLP
from shohypernet.samplers import gaussian, local_gaussian


def test_a_run_on_disk_is_the_run_in_memory(uninterrupted, tmp_path):
    result = run(workdir=tmp_path / "new" / "folder")
    assert_identical(result, uninterrupted)
    assert_identical(shohypernet.load(tmp_path / "new" / "folder"), result._replace(state=None))
    history = result.history
    assert steps_logged(tmp_path / "new" / "folder") == [0, 2, 4, 6, 8, 10, 12]
    for name in set(history._fields) - {
        "hyperparams",
        "unconstrained",
        "hyperparams_step",
        "metrics",
    }:
        column = [line[name] for line in logged(tmp_path / "new" / "folder")]
        np.testing.assert_array_equal(np.array(column), getattr(history, name))


@pytest.mark.parametrize("first", [2, 4, 10])
def test_a_resumed_run_is_the_uninterrupted_one(first, uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=first, checkpoint_every=3)
    resumed = run(workdir=tmp_path, resume=True)
    assert_identical(resumed, uninterrupted)
    assert np.all(np.diff(resumed.history.seconds) > 0)
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8, 10, 12]


def test_a_run_whose_last_chunk_was_shorter_is_resumed_as_if_it_went_on(tmp_path):
    whole = run(eval_every=5, steps=20)
    first = run(eval_every=5, steps=12, workdir=tmp_path)
    np.testing.assert_array_equal(first.history.step, [0, 5, 10, 12])
    again = run(eval_every=5, steps=12, workdir=tmp_path, resume=True)
    assert_identical(again, first)
    resumed = run(eval_every=5, steps=20, workdir=tmp_path, resume=True)
    # All but the mean of a norm over two parts, which is a sum in another order.
    norms = resumed.history.hypergradient_norm
    np.testing.assert_allclose(norms, whole.history.hypergradient_norm, rtol=1e-15)
    assert_identical(
        resumed, whole._replace(history=whole.history._replace(hypergradient_norm=norms))
    )
    assert steps_logged(tmp_path) == [0, 5, 10, 15, 20]


def test_auto_resumes_a_run_if_there_is_one(uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=4, resume="auto")
    resumed = run(workdir=tmp_path, resume="auto")
    assert_identical(resumed, uninterrupted)
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8, 10, 12]
    with pytest.raises(ValueError, match="holds another run"):
        run(workdir=tmp_path, resume="auto", inner_steps=1)
    # With nothing to write there is nothing to resume.
    assert_identical(run(resume="auto"), uninterrupted)


def test_one_seed_may_be_resumed_as_a_number_or_a_sequence(tmp_path):
    run(workdir=tmp_path, steps=4, seeds=5)
    resumed = run(workdir=tmp_path, seeds=[5], resume=True)
    assert_identical(resumed, run(seeds=[5]))


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
        lambda params, values: values * optax.tree.norm(params, squared=True),
        space=log(),
    )
    # Its first phase ends in the chunk after the checkpoint.
    method = global_response(
        problem,
        hypernets.mlp((4,)),
        hypernet_optimizer=optax.adam(optax.exponential_decay(0.01, 3, 0.9)),
        hyper_optimizer=optax.adam(0.02),
        sampler=gaussian(),
        hypernet_rounds=5,
    )

    def some(steps, folder, **kwargs):
        return run(
            method,
            lambda key: jnp.exp(jax.random.normal(key)),
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


def test_the_result_in_a_workdir_is_that_of_the_newest_step(tmp_path):
    """And none while a longer run goes on, whose checkpoints are newer."""
    run(workdir=tmp_path, steps=6)
    assert shohypernet.load(tmp_path).history.step[-1] == 6
    run(workdir=tmp_path, steps=12, resume=True)
    assert shohypernet.load(tmp_path).history.step[-1] == 12
    (tmp_path / "finished-12.npz").rename(tmp_path / "finished-10.npz")
    with pytest.raises(FileNotFoundError, match="hasn't ended"):
        shohypernet.load(tmp_path)
    run(workdir=tmp_path, steps=12, resume=True)
    assert shohypernet.load(tmp_path).history.step[-1] == 12


def test_a_resumed_run_keeps_its_eval_every(tmp_path):
    calm(workdir=tmp_path, steps=150, eval_every=None, checkpoint_every=100)
    history = calm(workdir=tmp_path, steps=250, eval_every=None, resume=True).history
    np.testing.assert_array_equal(history.step, np.arange(0, 251, 2))


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
    assert pathlib.Path(caught[0].filename).name == "walks.py"  # which calls fit
    assert_identical(resumed, uninterrupted)
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8, 10, 12]
    assert [path for path in files(tmp_path) if path.read_bytes() == bytes(content)]


def test_a_log_that_a_crash_left_behind_is_made_whole(uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=8)
    log = tmp_path / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    # It got further than the last checkpoint, and died in the midst of a line.
    log.write_text("".join(lines) + lines[-1].replace('"step": 8', '"step": 10') + lines[-1][:-9])
    resumed = run(workdir=tmp_path, resume=True)
    assert_identical(resumed, uninterrupted)
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8, 10, 12]


def test_a_run_that_died_before_its_first_checkpoint_restarts(uninterrupted, tmp_path):
    run(workdir=tmp_path, steps=2)
    (tmp_path / "checkpoints" / "2").rename(tmp_path / "checkpoints" / "draft")
    resumed = run(workdir=tmp_path, resume=True)
    assert_identical(resumed, uninterrupted)
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), ValueError("OUT_OF_RANGE: No space left")]
)
def test_a_full_disk_is_reported_and_spares_the_checkpoint_before(
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
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8, 10, 12]


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
            hypernets.linear(),
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
