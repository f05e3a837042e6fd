"""The contenders in PyTorch, eager and compiled, with its own optimizers."""

from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import _problems as problems
from benchmarks._problems import Setting
from benchmarks.contenders._base import Contender, Draws, Start

STEPS_PER_CALL = 5


class _State(NamedTuple):
    phi: list[list[torch.Tensor]]
    center: list[torch.Tensor]
    move_phi: Any
    move_center: Any


class _Functions(NamedTuple):
    """Both losses, and the transformation of all that runs, the optimizers' steps included."""

    hypernet_loss: Any
    valid_loss: Any
    transform: Any


def eager(start: Start) -> Contender:
    """On the CPU, with PyTorch's own number of threads."""
    return _contender(start, lambda function: function)


def compiled(start: Start) -> Contender:
    """The same with `torch.compile` over both losses, gradients included, and the optimizers."""
    return _contender(start, torch.compile)


def _contender(start: Start, transform: Any) -> Contender:
    setting = start.setting
    splits = [[torch.tensor(array) for array in split] for split in start.data[:2]]
    functions = _Functions(transform(_hypernet_loss), transform(_valid_loss), transform)
    state = _first(start, transform)
    generator = torch.Generator().manual_seed(0)

    def batch(split):
        if setting.batch is None:
            return split
        rows = torch.randint(len(split[0]), (setting.batch,), generator=generator)
        return [array[rows] for array in split]

    def advance(steps: int) -> None:
        for _ in range(steps):
            noise = [
                torch.randn(setting.samples, array.numel(), generator=generator)
                for array in state.center
            ]
            _step(setting, functions, state, noise, *map(batch, splits))

    def replay(draws: Draws) -> np.ndarray:
        replayed, losses = _first(start, transform), []
        for number, rows in enumerate(zip(draws.train_rows, draws.valid_rows, strict=True)):
            noise = [torch.tensor(array[number]) for array in draws.noise]
            batches = map(_taken, splits, map(torch.tensor, rows))
            both = _step(setting, functions, replayed, noise, *batches)
            losses.append([float(loss) for loss in both])
        return np.array(losses).T

    return Contender(advance, STEPS_PER_CALL, replay)


def _first(start: Start, transform: Any) -> _State:
    setting = start.setting
    phi = [[torch.tensor(array, requires_grad=True) for array in part] for part in start.hypernet]
    center = [
        torch.full((size,), setting.start, requires_grad=True) for size in setting.hyperparam_sizes
    ]
    optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[setting.optimizer]
    hypernet_optimizer = optimizer(_flat(phi), lr=setting.learning_rate)
    hyper_optimizer = torch.optim.Adam(
        center,
        lr=setting.hyper_learning_rate,
        betas=problems.ADAM_DECAYS,
        eps=problems.ADAM_EPSILON,
    )
    return _State(phi, center, transform(hypernet_optimizer.step), transform(hyper_optimizer.step))


def _flat(phi):
    return [array for part in phi for array in part]


def _taken(split, rows):
    return [array[rows] for array in split]


def _step(setting: Setting, functions: _Functions, state: _State, noise, train_batch, valid_batch):
    """Moves φ and λ̂ in place, and returns both losses before."""
    with torch.no_grad():
        sampled = [
            middle + setting.sampling_scale * array
            for middle, array in zip(state.center, noise, strict=True)
        ]
    train_loss = functions.hypernet_loss(setting, state.phi, sampled, *train_batch)
    _set_gradient(_flat(state.phi), train_loss)
    state.move_phi()
    frozen = [[array.detach() for array in part] for part in state.phi]
    valid_loss = functions.valid_loss(setting, frozen, state.center, *valid_batch)
    _set_gradient(state.center, valid_loss)
    state.move_center()
    return train_loss.detach(), valid_loss.detach()


def _set_gradient(arrays, loss):
    for array in arrays:
        array.grad = None
    loss.backward()


def _hypernet_loss(setting: Setting, phi, sampled, inputs, targets):
    params = _weights(setting, phi, sampled)
    loss = setting.loss_factor * _mean_squared_error(params, inputs, targets)
    if not setting.rank:
        squares = [(array**2).flatten(1).sum(1) for array in params]
        norms = torch.sqrt(torch.stack(squares).sum(0))
        return loss + (torch.exp(sampled[0][:, 0]) * norms).mean()
    penalties = [
        (torch.exp(array).reshape(made.shape) * made**2).sum()
        for array, made in zip(sampled, params, strict=True)
    ]
    return loss + setting.decay_scale / 10 / setting.samples * sum(penalties)


def _valid_loss(setting: Setting, phi, center, inputs, targets):
    params = _weights(setting, phi, [array[None] for array in center])
    return setting.loss_factor * _mean_squared_error(params, inputs, targets)


def _weights(setting: Setting, phi, hyperparams):
    """The network's arrays for K λ, (K, *shape) each."""
    into, into_bias, out, out_bias = phi
    inner = hyperparams[0]
    if setting.rank:
        inner = sum(h @ v for h, v in zip(hyperparams, into, strict=True)) + into_bias[0]
    return [
        torch.tensordot(inner, kernel, dims=1) + bias
        for kernel, bias in zip(out, out_bias, strict=True)
    ]


def _mean_squared_error(params, inputs, targets):
    """Mean squared error over K sets of weights."""
    hidden = inputs
    for layer in range(0, len(params), 2):
        bias, kernel = params[layer : layer + 2]
        if layer:
            hidden = torch.relu(hidden)
        hidden = torch.matmul(hidden, kernel) + bias[:, None, :]
    return torch.mean((hidden - targets) ** 2)
