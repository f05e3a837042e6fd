"""The contenders in plain JAX, as one would first write them: weights in one vector, and jit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import setting
from benchmarks.setting import Arrays, Contender


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

    return Contender(advance, replay)


def in_a_scan(arrays: Arrays) -> Contender:
    """The same step in a `lax.scan`."""
    data = jax.tree.map(jnp.asarray, arrays)
    state = _start(data)

    def scanned(state: Any, data: Arrays, steps: int) -> Any:
        return jax.lax.scan(lambda s, _: _drawing_step(s, data), state, length=steps)[0]

    jitted = jax.jit(scanned, static_argnums=2)

    def advance(steps: int) -> None:
        nonlocal state
        state = jax.block_until_ready(jitted(state, data, steps))

    def replay(noise: np.ndarray) -> np.ndarray:
        scan = jax.jit(lambda s, rows, d: jax.lax.scan(lambda s, row: _step(s, row, d), s, rows))
        return np.array(scan(_start(data), noise, data)[1])

    return Contender(advance, replay)


def in_a_scan_under_vmap(arrays: Arrays) -> Contender:
    """The same `lax.scan` under a `vmap` over one run, which changes nothing but its layout."""
    data = jax.tree.map(jnp.asarray, arrays)
    states = jax.tree.map(lambda leaf: leaf[None], _start(data))

    def scanned(states: Any, data: Arrays, steps: int) -> Any:
        def one(state: Any) -> Any:
            return jax.lax.scan(lambda s, _: _drawing_step(s, data), state, length=steps)[0]

        return jax.vmap(one)(states)

    jitted = jax.jit(scanned, static_argnums=2)

    def advance(steps: int) -> None:
        nonlocal states
        states = jax.block_until_ready(jitted(states, data, steps))

    def replay(noise: np.ndarray) -> np.ndarray:
        def one(state: Any, noise: jax.Array, data: Arrays) -> Any:
            return jax.lax.scan(lambda s, row: _step(s, row, data), state, noise)[1]

        losses = jax.jit(jax.vmap(one, in_axes=(0, None, None)))(states_at_start, noise, data)
        return np.array(losses)[:, 0]

    states_at_start = states
    return Contender(advance, replay)


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
