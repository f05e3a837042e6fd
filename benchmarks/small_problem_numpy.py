"""The contender in NumPy, differentiated by autograd, as the paper's authors worked."""

# Autograd makes its NumPy functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

import math

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from benchmarks import setting
from benchmarks.setting import Arrays, Contender

STEPS_A_CALL = 5


def contender(arrays: Arrays) -> Contender:
    """Arrays kept apart and float32 throughout; the ten sampled λ share one batched product."""
    train = arrays.train_inputs, arrays.train_targets
    valid = arrays.valid_inputs, arrays.valid_targets

    def start():
        phi = arrays[:4]
        return phi, np.float32(setting.START), np.float32(0), np.float32(0), 0

    def step(state, noise):
        phi, centre, first, second, count = state
        sampled = centre + np.float32(setting.SAMPLING_SCALE) * noise
        train_loss, gradient = _hypernet_gradient(phi, sampled, *train)
        rate = np.float32(setting.HYPERNET_LEARNING_RATE)
        phi = tuple(array - rate * change for array, change in zip(phi, gradient, strict=True))

        valid_loss, slope = _hypergradient(centre, phi, *valid)
        count += 1
        keep_first, keep_second = setting.ADAM_DECAYS
        first = keep_first * first + (1 - keep_first) * slope
        second = keep_second * second + (1 - keep_second) * slope**2
        size = np.sqrt(second / (1 - keep_second**count)) + setting.ADAM_EPSILON
        change = setting.HYPER_LEARNING_RATE * first / (1 - keep_first**count) / size
        return (phi, np.float32(centre - change), first, second, count), (train_loss, valid_loss)

    state = start()
    random = np.random.default_rng(0)

    def advance(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, random.standard_normal(setting.SAMPLES, np.float32))

    def replay(noise: np.ndarray) -> np.ndarray:
        replayed, losses = start(), []
        for row in noise:
            replayed, both = step(replayed, row)
            losses.append(both)
        return np.array(losses).T

    return Contender(advance, STEPS_A_CALL, replay)


def _nll(outputs, targets):
    # Sums, not means: the gradient of anp.mean is float64, and the products after it would be too.
    squares = anp.sum((outputs - targets) ** 2)
    return (setting.NLL_FACTOR / math.prod(outputs.shape)) * squares + setting.NLL_CONSTANT


@value_and_grad
def _hypernet_gradient(phi, sampled, inputs, targets):
    slope_kernel, slope_bias, offset_kernel, offset_bias = phi
    kernels = sampled[:, None, None] * slope_kernel + offset_kernel
    biases = sampled[:, None] * slope_bias + offset_bias
    outputs = anp.matmul(inputs, kernels) + biases[:, None, :]
    squares = anp.sum(kernels**2, axis=(1, 2)) + anp.sum(biases**2, axis=1)
    return _nll(outputs, targets) + anp.sum(anp.exp(sampled) * anp.sqrt(squares)) / len(sampled)


@value_and_grad
def _hypergradient(centre, phi, inputs, targets):
    slope_kernel, slope_bias, offset_kernel, offset_bias = phi
    kernel = centre * slope_kernel + offset_kernel
    return _nll(anp.matmul(inputs, kernel) + (centre * slope_bias + offset_bias), targets)
