"""A problem and a method small enough for their answers to be worked out, and runs of them."""

import functools
import json
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import HyperOptimizer, Info, Problem
from shohypernet.batches import Data
from shohypernet.fitting import fit

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


def as_it_is(state, info):
    return state, info


@functools.cache
def walk(noise=0.0, on_step=as_it_is):
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
    """A run that uses every source of randomness, unless asked otherwise."""
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


def longer(workdir, **kwargs):
    """A run that lasts long enough to be stopped by other processes."""
    return calm(walk(noise=0.1), steps=120, workdir=workdir, **kwargs)


def at_step(number, change):
    """Change of a walk at one step only."""

    def on_step(state, info):
        changed = change(state, info)
        now = state.steps == number
        return jax.tree.map(lambda new, old: jnp.where(now, new, old), changed, (state, info))

    return on_step


def untouchable(*arguments):
    raise AssertionError("traced before it was refused")


def never_taken():
    """A walk whose steps may be traced, but fail when they are taken."""

    def fail(_):
        raise AssertionError("a step was taken")

    def on_step(state, info):
        jax.debug.callback(fail, state.steps)
        return state, info

    return walk(on_step=on_step)


def assert_identical(result, expected):
    """Bit for bit, but for what the clock says."""
    timeless = [
        r._replace(history=r.history._replace(seconds=None), compile_seconds=None, seeds=None)
        for r in (result, expected)
    ]
    chex.assert_trees_all_equal_shapes_and_dtypes(*timeless)
    for leaf, other in zip(*map(jax.tree.leaves, timeless), strict=True):
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()


def logged(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def steps_logged(workdir):
    return [line["step"] for line in logged(workdir)]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
