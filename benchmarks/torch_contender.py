"""The contenders in PyTorch, eager and compiled, with its own optimizers."""

import numpy as np
import torch

from benchmarks import settings
from benchmarks.settings import Contender, Draws, Setting, Start

STEPS_A_CALL = 5


def eager(start: Start) -> Contender:
    """On the CPU, with PyTorch's own number of threads."""
    return _contender(start, lambda function: function)


def compiled(start: Start) -> Contender:
    """The same with `torch.compile` over both losses, gradients included, and the optimizers."""
    return _contender(start, torch.compile)


def _contender(start: Start, transform) -> Contender:
    setting = start.setting
    train, valid = ([torch.tensor(array) for array in split] for split in start.data[:2])
    hypernet_loss, valid_loss = transform(_hypernet_loss), transform(_valid_loss)

    def first():
        phi = [
            [torch.tensor(array, requires_grad=True) for array in part] for part in start.hypernet
        ]
        sizes = [int(np.prod(shape)) for shape in setting.shapes] if setting.rank else [1]
        center = [torch.full((size,), setting.start, requires_grad=True) for size in sizes]
        flat = [array for part in phi for array in part]
        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[setting.optimizer]
        hypernet_optimizer = optimizer(flat, lr=setting.learning_rate)
        hyper_optimizer = torch.optim.Adam(
            center,
            lr=setting.hyper_learning_rate,
            betas=settings.ADAM_DECAYS,
            eps=settings.ADAM_EPSILON,
        )
        steps = transform(hypernet_optimizer.step), transform(hyper_optimizer.step)
        return phi, flat, center, steps

    def step(state, noise, train_batch, valid_batch):
        phi, flat, center, (move_hypernet, move_hyperparams) = state
        with torch.no_grad():
            sampled = [
                middle + setting.sampling_scale * array
                for middle, array in zip(center, noise, strict=True)
            ]
        train_loss = hypernet_loss(setting, phi, sampled, *train_batch)
        _set_gradient(flat, train_loss)
        move_hypernet()
        frozen = [[array.detach() for array in part] for part in phi]
        loss = valid_loss(setting, frozen, center, *valid_batch)
        _set_gradient(center, loss)
        move_hyperparams()
        return train_loss.detach(), loss.detach()

    state = first()
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
                for array in state[2]
            ]
            step(state, noise, batch(train), batch(valid))

    def replay(draws: Draws) -> np.ndarray:
        replayed, losses = first(), []
        for number, rows in enumerate(zip(draws.train_rows, draws.valid_rows, strict=True)):
            batches = [
                [array[torch.tensor(these)] for array in split]
                for split, these in zip((train, valid), rows, strict=True)
            ]
            noise = [torch.tensor(array[number]) for array in draws.noise]
            losses.append([float(x) for x in step(replayed, noise, *batches)])
        return np.array(losses).T

    return Contender(advance, STEPS_A_CALL, replay)


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
    """The network's arrays for K λ: (K, *shape) each."""
    into, into_bias, out, out_bias = phi
    inner = hyperparams[0]
    if setting.rank:
        inner = sum(h @ v for h, v in zip(hyperparams, into, strict=True)) + into_bias[0]
    return [
        torch.tensordot(inner, kernel, dims=1) + bias
        for kernel, bias in zip(out, out_bias, strict=True)
    ]


def _mean_squared_error(params, inputs, targets):
    """Of each of K sets of weights, then their mean."""
    hidden = inputs
    for layer in range(0, len(params), 2):
        bias, kernel = params[layer : layer + 2]
        if layer:
            hidden = torch.relu(hidden)
        hidden = torch.matmul(hidden, kernel) + bias[:, None, :]
    return torch.mean((hidden - targets) ** 2)
