"""The contender in PyTorch, eager, with its own optimisers."""

import numpy as np
import torch

from benchmarks import setting
from benchmarks.setting import Arrays, Contender

STEPS_A_CALL = 5


def contender(arrays: Arrays) -> Contender:
    """As the NumPy contender, on the CPU with PyTorch's own number of threads."""
    train_inputs, train_targets, valid_inputs, valid_targets = map(torch.tensor, arrays[4:])

    def start():
        phi = [torch.tensor(array, requires_grad=True) for array in arrays[:4]]
        centre = torch.tensor(setting.START, requires_grad=True)
        return (
            phi,
            centre,
            torch.optim.SGD(phi, lr=setting.HYPERNET_LEARNING_RATE),
            torch.optim.Adam(
                [centre],
                lr=setting.HYPER_LEARNING_RATE,
                betas=setting.ADAM_DECAYS,
                eps=setting.ADAM_EPSILON,
            ),
        )

    def step(state, noise):
        phi, centre, hypernet_optimizer, hyper_optimizer = state
        slope_kernel, slope_bias, offset_kernel, offset_bias = phi
        sampled = centre.detach() + setting.SAMPLING_SCALE * noise
        kernels = sampled[:, None, None] * slope_kernel + offset_kernel
        biases = sampled[:, None] * slope_bias + offset_bias
        outputs = torch.matmul(train_inputs, kernels) + biases[:, None, :]
        norms = torch.sqrt((kernels**2).sum((1, 2)) + (biases**2).sum(1))
        train_loss = _nll(outputs, train_targets) + (torch.exp(sampled) * norms).mean()
        hypernet_optimizer.zero_grad()
        train_loss.backward()
        hypernet_optimizer.step()

        frozen = [array.detach() for array in phi]
        kernel = centre * frozen[0] + frozen[2]
        outputs = valid_inputs @ kernel + (centre * frozen[1] + frozen[3])
        valid_loss = _nll(outputs, valid_targets)
        hyper_optimizer.zero_grad()
        valid_loss.backward()
        hyper_optimizer.step()
        return train_loss.detach(), valid_loss.detach()

    state = start()
    generator = torch.Generator().manual_seed(0)

    def advance(steps: int) -> None:
        for _ in range(steps):
            step(state, torch.randn(setting.SAMPLES, generator=generator))

    def replay(noise: np.ndarray) -> np.ndarray:
        replayed = start()
        return np.array([[float(x) for x in step(replayed, torch.tensor(row))] for row in noise]).T

    return Contender(advance, STEPS_A_CALL, replay)


def _nll(outputs, targets):
    return setting.NLL_FACTOR * torch.mean((outputs - targets) ** 2) + setting.NLL_CONSTANT
