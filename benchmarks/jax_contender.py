"""The contender in plain JAX, as one would first write it: a jitted scan, optax, no library."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import settings
from benchmarks.settings import Contender, Draws, Setting, Start


def contender(start: Start, steps_a_call: int) -> Contender:
    """Steps in a `lax.scan`, with the noise and the rows drawn inside, and buffers donated."""
    setting = start.setting
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[setting.optimizer](setting.learning_rate)
    hyper_optimizer = optax.adam(
        setting.hyper_learning_rate, *settings.ADAM_DECAYS, eps=settings.ADAM_EPSILON
    )
    data = jax.tree.map(jnp.asarray, tuple(map(tuple, start.data[:2])))

    def first() -> Any:
        phi = jax.tree.map(jnp.asarray, start.hypernet)
        sizes = [int(np.prod(shape)) for shape in setting.shapes] if setting.rank else [1]
        center = [jnp.full(size, setting.start) for size in sizes]
        return phi, center, optimizer.init(phi), hyper_optimizer.init(center)

    def step(state: Any, noise: Any, train_batch: Any, valid_batch: Any) -> Any:
        phi, center, opt_state, hyper_opt_state = state
        sampled = jax.tree.map(
            lambda middle, array: middle + setting.sampling_scale * array, center, noise
        )
        train, gradient = jax.value_and_grad(
            lambda phi: jnp.mean(
                jax.vmap(lambda h: _train_loss(setting, phi, h, *train_batch))(sampled)
            )
        )(phi)
        change, opt_state = optimizer.update(gradient, opt_state)
        phi = optax.apply_updates(phi, change)
        valid, slope = jax.value_and_grad(
            lambda h: _data_loss(setting, _weights(setting, phi, h), *valid_batch)
        )(center)
        change, hyper_opt_state = hyper_optimizer.update(slope, hyper_opt_state)
        center = optax.apply_updates(center, change)
        return (phi, center, opt_state, hyper_opt_state), (train, valid)

    def drawing_step(state: Any, key: jax.Array, data: Any) -> Any:
        key_noise, *keys = jax.random.split(key, 3)
        noise = [
            jax.random.normal(k, (setting.samples, center.size))
            for k, center in zip(jax.random.split(key_noise, len(state[1])), state[1], strict=True)
        ]
        batches = data
        if setting.batch is not None:
            rows = [
                jax.random.randint(k, (setting.batch,), 0, len(split[0]))
                for k, split in zip(keys, data, strict=True)
            ]
            batches = [_taken(split, these) for split, these in zip(data, rows, strict=True)]
        return step(state, noise, *batches)[0], None

    @jax.jit
    def replayed(state: Any, draws: Draws, data: Any) -> Any:
        def one(state: Any, drawn: Draws) -> Any:
            batches = [
                _taken(split, rows)
                for split, rows in zip(data, (drawn.train_rows, drawn.valid_rows), strict=True)
            ]
            return step(state, drawn.noise, *batches)

        return jax.lax.scan(one, state, draws)[1]

    def steps(state: Any, key: jax.Array, data: Any) -> Any:
        keys = jax.random.split(key, steps_a_call)
        return jax.lax.scan(lambda s, k: drawing_step(s, k, data), state, keys)[0]

    run: Any = jax.jit(steps, donate_argnums=0)
    state, key = first(), jax.random.key(0)

    def advance(steps_asked: int) -> None:
        nonlocal state, key
        del steps_asked  # always those of a call
        key, key_now = jax.random.split(key)
        state = jax.block_until_ready(run(state, key_now, data))

    def replay(draws: Draws) -> np.ndarray:
        return np.array(replayed(first(), jax.tree.map(jnp.asarray, draws), data))

    return Contender(advance, steps_a_call, replay)


def _taken(split: Any, rows: Any) -> Any:
    return [array[rows] for array in split]


def _train_loss(setting: Setting, phi: Any, hyperparams: Any, inputs: Any, targets: Any) -> Any:
    params = _weights(setting, phi, hyperparams)
    loss = _data_loss(setting, params, inputs, targets)
    if not setting.rank:
        norm = jnp.sqrt(sum(jnp.sum(array**2) for array in params))
        return loss + jnp.exp(hyperparams[0][0]) * norm
    decays = [
        jnp.exp(h).reshape(shape) for h, shape in zip(hyperparams, setting.shapes, strict=True)
    ]
    squares = sum(jnp.sum(d * array**2) for d, array in zip(decays, params, strict=True))
    return loss + setting.decay_scale / 10 * squares


def _data_loss(setting: Setting, params: Any, inputs: Any, targets: Any) -> Any:
    hidden = inputs
    for layer in range(0, len(params), 2):
        bias, kernel = params[layer : layer + 2]
        if layer:
            hidden = jax.nn.relu(hidden)
        hidden = hidden @ kernel + bias
    return setting.loss_factor * jnp.mean((hidden - targets) ** 2)


def _weights(setting: Setting, phi: Any, hyperparams: Any) -> Any:
    inner = hyperparams[0]
    if setting.rank:
        inner = sum(h @ v for h, v in zip(hyperparams, phi.into, strict=True)) + phi.into_bias[0]
    return [
        jnp.tensordot(inner, kernel, axes=1) + bias
        for kernel, bias in zip(phi.out, phi.out_bias, strict=True)
    ]
