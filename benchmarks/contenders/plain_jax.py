"""The contender in plain JAX and optax: a jitted scan, as a first version would be written."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import _problems as problems
from benchmarks._problems import Setting
from benchmarks.contenders._base import Contender, Draws, Start


class _State(NamedTuple):
    phi: Any
    center: Any
    opt_state: Any
    hyper_opt_state: Any


def contender(start: Start, steps_per_call: int) -> Contender:
    """Steps in a `lax.scan`, with the noise and the rows drawn inside, and buffers donated."""
    setting = start.setting
    data = jax.tree.map(jnp.asarray, tuple(map(tuple, start.data[:2])))

    @jax.jit
    def replayed(state: _State, draws: Draws, data: Any) -> Any:
        def one(state: _State, drawn: Draws) -> Any:
            batches = map(_taken, data, (drawn.train_rows, drawn.valid_rows))
            return _step(setting, state, drawn.noise, *batches)

        return jax.lax.scan(one, state, draws)[1]

    def steps(state: _State, key: jax.Array, data: Any) -> _State:
        keys = jax.random.split(key, steps_per_call)
        return jax.lax.scan(lambda s, k: (_drawing_step(setting, s, k, data), None), state, keys)[0]

    run: Any = jax.jit(steps, donate_argnums=0)
    state, key = _first(start), jax.random.key(0)

    def advance(steps_asked: int) -> None:
        nonlocal state, key
        del steps_asked  # always those of a call
        key, key_now = jax.random.split(key)
        state = jax.block_until_ready(run(state, key_now, data))

    def replay(draws: Draws) -> np.ndarray:
        return np.array(replayed(_first(start), jax.tree.map(jnp.asarray, draws), data))

    return Contender(advance, steps_per_call, replay)


def _optimizers(setting: Setting) -> tuple[optax.GradientTransformation, ...]:
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[setting.optimizer](setting.learning_rate)
    hyper_optimizer = optax.adam(
        setting.hyper_learning_rate, *problems.ADAM_DECAYS, eps=problems.ADAM_EPSILON
    )
    return optimizer, hyper_optimizer


def _first(start: Start) -> _State:
    setting = start.setting
    optimizer, hyper_optimizer = _optimizers(setting)
    phi = jax.tree.map(jnp.asarray, start.hypernet)
    center = [jnp.full(size, setting.start) for size in setting.hyperparam_sizes]
    return _State(phi, center, optimizer.init(phi), hyper_optimizer.init(center))


def _step(
    setting: Setting, state: _State, noise: Any, train_batch: Any, valid_batch: Any
) -> tuple[_State, tuple[jax.Array, jax.Array]]:
    """The next state, and both losses before it."""
    optimizer, hyper_optimizer = _optimizers(setting)
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
    return _State(phi, center, opt_state, hyper_opt_state), (train, valid)


def _drawing_step(setting: Setting, state: _State, key: jax.Array, data: Any) -> _State:
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
        batches = map(_taken, data, rows)
    return _step(setting, state, noise, *batches)[0]


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
