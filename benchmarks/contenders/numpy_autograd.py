"""The contender in NumPy with autograd, the tools of the paper's authors."""

# Autograd makes its NumPy functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from benchmarks import _problems as problems
from benchmarks._problems import Setting
from benchmarks.contenders._base import Contender, Draws, Start

STEPS_PER_CALL = 2


class _Adam(NamedTuple):
    first: list[np.ndarray]
    second: list[np.ndarray]
    steps: int


class _State(NamedTuple):
    phi: list[np.ndarray]  # flat, V first, as autograd differentiates lists of arrays
    center: list[np.ndarray]
    phi_adam: _Adam
    center_adam: _Adam


def contender(start: Start) -> Contender:
    """Float32 throughout; the sampled λ share one batched product."""
    setting, splits = start.setting, start.data[:2]
    state = _first(start)
    random = np.random.default_rng(0)

    def batch(split):
        if setting.batch is None:
            return split
        return _taken(split, random.integers(len(split.inputs), size=setting.batch))

    def advance(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            noise = [
                random.standard_normal((setting.samples, array.size), np.float32)
                for array in state.center
            ]
            state, _ = _step(setting, state, noise, *map(batch, splits))

    def replay(draws: Draws) -> np.ndarray:
        replayed, losses = _first(start), []
        for number, rows in enumerate(zip(draws.train_rows, draws.valid_rows, strict=True)):
            noise = [array[number] for array in draws.noise]
            replayed, both = _step(setting, replayed, noise, *map(_taken, splits, rows))
            losses.append(both)
        return np.array(losses).T

    return Contender(advance, STEPS_PER_CALL, replay)


def _first(start: Start) -> _State:
    setting = start.setting
    phi = [array.copy() for part in start.hypernet for array in part]
    center = [np.full(size, setting.start, np.float32) for size in setting.hyperparam_sizes]
    return _State(phi, center, _blank(phi), _blank(center))


def _taken(split, rows):
    return split.inputs[rows], split.targets[rows]


def _step(setting: Setting, state: _State, noise, train_batch, valid_batch):
    """The next state, and both losses before it."""
    phi, center, phi_adam, center_adam = state
    scale = np.float32(setting.sampling_scale)
    sampled = [middle + scale * array for middle, array in zip(center, noise, strict=True)]
    train_loss, gradient = value_and_grad(_hypernet_loss)(phi, setting, sampled, *train_batch)
    if setting.optimizer == "adam":
        phi, phi_adam = _adam(phi, gradient, phi_adam, setting.learning_rate)
    else:
        rate = np.float32(setting.learning_rate)
        phi = [array - rate * change for array, change in zip(phi, gradient, strict=True)]
    valid_loss, gradient = value_and_grad(_valid_loss)(center, setting, phi, *valid_batch)
    center, center_adam = _adam(center, gradient, center_adam, setting.hyper_learning_rate)
    return _State(phi, center, phi_adam, center_adam), (train_loss, valid_loss)


def _hypernet_loss(phi, setting: Setting, sampled, inputs, targets):
    params = _weights(setting, phi, sampled)
    loss = setting.loss_factor * _mean_squared_error(params, inputs, targets)
    # Sums, not means: the gradient of anp.mean is float64, and the products after it would be too.
    squares = [anp.sum(array**2, axis=tuple(range(1, array.ndim))) for array in params]
    if not setting.rank:
        penalties = anp.exp(sampled[0][:, 0]) * anp.sqrt(sum(squares))
        return loss + anp.sum(penalties) / setting.samples
    decays = [
        np.exp(array).reshape(made.shape) for array, made in zip(sampled, params, strict=True)
    ]
    penalties = [anp.sum(decay * array**2) for decay, array in zip(decays, params, strict=True)]
    return loss + np.float32(setting.decay_scale / 10 / setting.samples) * sum(penalties)


def _valid_loss(center, setting: Setting, phi, inputs, targets):
    params = _weights(setting, phi, [anp.reshape(array, (1, -1)) for array in center])
    return setting.loss_factor * _mean_squared_error(params, inputs, targets)


def _weights(setting: Setting, phi, hyperparams):
    """The network's arrays for K λ, (K, *shape) each."""
    arrays = len(setting.shapes)
    out, out_bias = phi[-2 * arrays : -arrays], phi[-arrays:]
    inner = hyperparams[0]
    if setting.rank:
        products = [anp.matmul(h, into) for h, into in zip(hyperparams, phi, strict=False)]
        inner = sum(products) + phi[arrays]
    return [
        anp.tensordot(inner, kernel, axes=1) + bias
        for kernel, bias in zip(out, out_bias, strict=True)
    ]


def _mean_squared_error(params, inputs, targets):
    """Mean squared error over K sets of weights."""
    hidden = inputs
    for bias, kernel in zip(params[::2], params[1::2], strict=True):
        if hidden is not inputs:
            hidden = anp.maximum(hidden, np.float32(0))
        hidden = anp.matmul(hidden, kernel) + bias[:, None, :]
    errors = hidden - targets
    return anp.sum(errors**2) / errors.size


def _blank(arrays) -> _Adam:
    return _Adam(*([np.zeros_like(array) for array in arrays] for _ in range(2)), 0)


def _adam(arrays, gradient, adam: _Adam, rate: float):
    keep_first, keep_second = map(np.float32, problems.ADAM_DECAYS)
    steps = adam.steps + 1
    step_size, first_scale, second_scale = (
        np.float32(x) for x in (rate, 1 - keep_first**steps, 1 - keep_second**steps)
    )
    moved, firsts, seconds = [], [], []
    for array, slope, first, second in zip(arrays, gradient, *adam[:2], strict=True):
        first = keep_first * first + (1 - keep_first) * slope
        second = keep_second * second + (1 - keep_second) * slope**2
        size = np.sqrt(second / second_scale) + np.float32(problems.ADAM_EPSILON)
        moved.append(array - step_size * (first / first_scale) / size)
        firsts.append(first)
        seconds.append(second)
    return moved, _Adam(firsts, seconds, steps)
