"""Runs that people look into: without compilation, with checks for leaks; paths; whole numbers."""

import jax
import numpy as np
import pytest
from test_precisions import prepared
from walks import calm

import shohypernet as shn
from shohypernet._internal.layers import layers_of
from shohypernet.fitting import _plan as plans


def tuned(name):
    method, start, _, batch = prepared(name, "single")
    problem = method.problem
    natural = shn.hyperparameters.decode(problem.space, start)
    sizes = {"steps": 1, "inner_steps": 2, "train_batch_size": 5, "seeds": [0]}
    return shn.fit(problem, method, (batch, batch, batch), natural, **sizes)


@pytest.mark.filterwarnings("ignore:the hyperparameters stood still")
def test_a_run_without_compilation_is_the_same():
    with jax.disable_jit():
        stepped = tuned("unrolled")
    compiled = tuned("unrolled")
    for attribute in ("valid_loss", "hypergradient_norm"):
        pair = (getattr(result.history, attribute) for result in (stepped, compiled))
        np.testing.assert_allclose(*pair, rtol=1e-4)


def test_without_compilation_a_loss_sees_numbers():
    seen = []

    def valid_loss(params, hyperparams, batch):
        if not isinstance(params, jax.core.Tracer):
            seen.append(float(params))
        return params * batch.mean()

    problem = shn.Problem(
        lambda key: jax.numpy.zeros(()), lambda w, lam, batch, key: w * lam.sum(), valid_loss
    )
    with jax.disable_jit():
        calm(problem=problem, steps=2, seeds=0)
    assert seen[-1] == 13  # as the walk has it


def test_no_array_of_a_trace_is_kept():
    # A whole run with these checks takes a minute; it was here that one kept any.
    problem = prepared("kronecker", "single")[0].problem
    with jax.checking_leaks():
        (hidden, outputs) = layers_of(problem)
        assert jax.eval_shape(lambda key: problem.init(key), jax.random.key(0))
    assert (hidden.outputs, outputs.outputs) == (3, 2)


def test_a_tilde_means_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    calm(workdir="~/runs/one", steps=2)
    assert (tmp_path / "runs" / "one" / "run.json").exists()
    result = calm(workdir="~/runs/one", steps=4, resume="auto")
    assert result.history.step[-1] == 4
    result.save("~/runs/result.npz")
    assert (tmp_path / "runs" / "result.npz").exists()
    assert shn.load("~/runs/result.npz").seeds == (0, 5)


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        (np.array([1, 2**31]), False),
        (np.array([1, 2**32 - 1], np.uint64), True),
        (np.array([1.0, 2**24 + 1]), False),
        (np.array([1.0, 2**24 + 2]), True),
        (np.array([0.1, 2**24 + 1]), True),  # measurements, which are rounded
        (np.array([1, 2**31 - 1]), True),
    ],
)
def test_whole_numbers_that_32_bits_cannot_hold_are_refused(ids, kept):
    rows = {"x": np.ones(2, np.float32), "id": ids}
    if kept:
        assert plans.splits((rows, rows, None)).test is None
        return
    with pytest.raises(
        ValueError, match=rf"data.train\['id'\] holds the whole number {ids[1]:.0f}"
    ):
        plans.splits((rows, rows, rows))
