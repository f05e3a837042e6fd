"""The contenders in plain JAX, as one would first write them: weights in one vector, and jit."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import setting
from benchmarks.setting import Arrays, Contender

STEPS_A_CALL = 50


def in_a_loop(arrays: Arrays) -> Contender:
    """A jitted step, called from a Python loop."""
    data = jax.tree.map(jnp.asarray, arrays)
    jitted = jax.jit(_drawing_step)
    state = _start(data)

    def advance(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = jitted(state, data)
        jax.block_until_ready(state)

    def replay(noise: np.ndarray) -> np.ndarray:
        step = jax.jit(_step)
        replayed, losses = _start(data), []
        for row in noise:
            replayed, both = step(replayed, row, data)
            losses.append(both)
        return np.array(losses).T

    return Contender(advance, STEPS_A_CALL, replay)


def in_a_scan(arrays: Arrays) -> Contender:
    """The same step in a `lax.scan`."""
    return _scanned(arrays, lambda run: run)


def in_a_scan_under_vmap(arrays: Arrays) -> Contender:
    """The same `lax.scan` under a `vmap` over one run, which changes nothing but the layout."""

    def over_one(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def squeezed(state: Any) -> Any:
            results = jax.vmap(run)(jax.tree.map(lambda leaf: leaf[None], state))
            return jax.tree.map(lambda leaf: leaf[0], results)

        return squeezed

    return _scanned(arrays, over_one)


def _scanned(
    arrays: Arrays, transform: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]
) -> Contender:
    data = jax.tree.map(jnp.asarray, arrays)
    state = _start(data)

    @functools.partial(jax.jit, static_argnums=2)
    def run(state: Any, data: Arrays, steps: int) -> Any:
        def one(state: Any) -> Any:
            return jax.lax.scan(lambda s, _: _drawing_step(s, data), state, length=steps)[0]

        return transform(one)(state)

    @jax.jit
    def losses(state: Any, noise: jax.Array, data: Arrays) -> Any:
        def one(state: Any) -> Any:
            return jax.lax.scan(lambda s, row: _step(s, row, data), state, noise)[1]

        return transform(one)(state)

    def advance(steps: int) -> None:
        nonlocal state
        state = jax.block_until_ready(run(state, data, steps))

    def replay(noise: np.ndarray) -> np.ndarray:
        return np.array(losses(_start(data), jnp.asarray(noise), data))

    return Contender(advance, STEPS_A_CALL, replay)


def _start(data: Arrays) -> dict[str, Any]:
    slope = jnp.concatenate([jnp.ravel(data.slope_kernel), data.slope_bias])
    offset = jnp.concatenate([jnp.ravel(data.offset_kernel), data.offset_bias])
    return {
        "key": jax.random.key(0),
        "phi": jnp.stack([slope, offset]),
        "centre": jnp.float32(setting.START),
        "first": jnp.float32(0),
        "second": jnp.float32(0),
        "count": jnp.int32(0),
    }


def _nll(weights: jax.Array, inputs: Any, targets: Any) -> jax.Array:
    pixels, classes = inputs.shape[1], targets.shape[1]
    kernel = weights[: pixels * classes].reshape(pixels, classes)
    outputs = inputs @ kernel + weights[pixels * classes :]
    return setting.NLL_FACTOR * jnp.mean((outputs - targets) ** 2) + setting.NLL_CONSTANT


def _train_loss(phi: jax.Array, sampled: jax.Array, data: Arrays) -> jax.Array:
    def one(hyperparam: jax.Array) -> jax.Array:
        weights = hyperparam * phi[0] + phi[1]
        penalty = jnp.exp(hyperparam) * jnp.linalg.norm(weights)
        return _nll(weights, data.train_inputs, data.train_targets) + penalty

    return jnp.mean(jax.vmap(one)(sampled))


def _valid_loss(centre: jax.Array, phi: jax.Array, data: Arrays) -> jax.Array:
    return _nll(centre * phi[0] + phi[1], data.valid_inputs, data.valid_targets)


def _drawing_step(state: dict[str, Any], data: Arrays) -> Any:
    key, key_noise = jax.random.split(state["key"])
    return _step({**state, "key": key}, jax.random.normal(key_noise, (setting.SAMPLES,)), data)


def _step(state: dict[str, Any], noise: jax.Array, data: Arrays) -> Any:
    sampled = state["centre"] + setting.SAMPLING_SCALE * noise
    train, gradient = jax.value_and_grad(_train_loss)(state["phi"], sampled, data)
    phi = state["phi"] - setting.HYPERNET_LEARNING_RATE * gradient

    valid, slope = jax.value_and_grad(_valid_loss)(state["centre"], phi, data)
    keep_first, keep_second = setting.ADAM_DECAYS
    count = state["count"] + 1
    first = keep_first * state["first"] + (1 - keep_first) * slope
    second = keep_second * state["second"] + (1 - keep_second) * slope**2
    size = jnp.sqrt(second / (1 - keep_second**count)) + setting.ADAM_EPSILON
    change = setting.HYPER_LEARNING_RATE * first / (1 - keep_first**count) / size
    moved = {
        "key": state["key"],
        "phi": phi,
        "centre": state["centre"] - change,
        "first": first,
        "second": second,
        "count": count,
    }
    return moved, (train, valid)
