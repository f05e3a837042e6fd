"""Tasks of `maml`: quadratics, whose best initializations are known, and sinusoids."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize


class Quadratics(NamedTuple):
    """L_i(w) = ½ (w − c_i)ᵀ A_i (w − c_i), the tasks on the leading axis.

    Attributes:
      curvatures: A_i, shape (tasks, d, d).
      centers: c_i, shape (tasks, d).
    """

    curvatures: Any
    centers: Any


def quadratics(tasks: int, dimensions: int) -> Quadratics:
    """Tasks with eigenvalues between 0.1 and 3, and centers from N(0, I), float64."""
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0] for _ in range(tasks)]
    values = np.exp(rng.uniform(np.log(0.1), np.log(3.0), size=(tasks, dimensions)))
    curvatures = [(basis * each) @ basis.T for basis, each in zip(bases, values, strict=True)]
    return Quadratics(np.stack(curvatures), rng.normal(size=(tasks, dimensions)))


def quadratic_loss(weights: jax.Array, task: Quadratics) -> jax.Array:
    """L_i(w)."""
    away = weights - task.centers
    return away @ task.curvatures @ away / 2


def contraction(task: Quadratics, rate: Any, steps: int, momentum: float = 0.0) -> np.ndarray:
    """M_i of every task, what is left of w − c_i after k steps: (I − αA_i)^k without momentum."""
    left = np.broadcast_to(np.eye(task.centers.shape[1]), task.curvatures.shape)
    velocity = np.zeros_like(left)
    for _ in range(steps):
        velocity = momentum * velocity - rate * task.curvatures @ left
        left = left + velocity
    return left


def closed_form(task: Quadratics, rate: float, steps: int, momentum: float = 0.0) -> np.ndarray:
    """MAML's best θ = (Σ M_iᵀ A_i M_i)⁻¹ Σ M_iᵀ A_i M_i c_i."""
    left = contraction(task, rate, steps, momentum)
    return _balance(task, np.einsum("tji,tjk,tkl->til", left, task.curvatures, left))


def first_order_form(task: Quadratics, rate: float, steps: int) -> np.ndarray:
    """Where first-order MAML rests: Σ A_i M_i (θ − c_i) = 0."""
    return _balance(task, task.curvatures @ contraction(task, rate, steps))


def implicit_form(task: Quadratics, proximity: float) -> np.ndarray:
    """Implicit MAML's best θ, with N_i = ρ (A_i + ρI)⁻¹ in place of M_i."""
    eye = np.eye(task.centers.shape[1])
    left = np.stack([proximity * np.linalg.inv(each + proximity * eye) for each in task.curvatures])
    return _balance(task, np.einsum("tji,tjk,tkl->til", left, task.curvatures, left))


def adapted_loss(
    task: Quadratics, theta: np.ndarray, rate: Any, steps: int, momentum: float = 0.0
) -> float:
    """Mean loss after k steps from θ."""
    left = contraction(task, rate, steps, momentum)
    away = np.einsum("tij,tj->ti", left, theta - task.centers)
    return float(np.einsum("ti,tij,tj->t", away, task.curvatures, away).mean() / 2)


def best_rate(task: Quadratics, steps: int) -> tuple[np.ndarray, float]:
    """θ and the one step size α of least adapted loss, by a search in α."""

    def loss(rate: float) -> float:
        return adapted_loss(task, closed_form(task, rate, steps), rate, steps)

    found: Any = scipy.optimize.minimize_scalar(loss, bounds=(0.01, 2.0), method="bounded")
    return closed_form(task, found.x, steps), float(found.x)


def _balance(task: Quadratics, matrices: np.ndarray) -> np.ndarray:
    return np.linalg.solve(matrices.sum(0), np.einsum("tij,tj->i", matrices, task.centers))


def sinusoids(key: jax.Array, tasks: int, shots: int) -> tuple[Any, Any]:
    """Support and query of some tasks: y = A sin(x − φ), pairs of arrays (tasks, shots, 1).

    A ~ U[0.1, 5], φ ~ U[0, π], x ~ U[−5, 5], as in Finn et al.
    """
    key_a, key_phase, key_x = jax.random.split(key, 3)
    amplitude = jax.random.uniform(key_a, (tasks, 1, 1), minval=0.1, maxval=5.0)
    phase = jax.random.uniform(key_phase, (tasks, 1, 1), maxval=jnp.pi)
    x = jax.random.uniform(key_x, (tasks, 2 * shots, 1), minval=-5.0, maxval=5.0)
    y = amplitude * jnp.sin(x - phase)
    return (x[:, :shots], y[:, :shots]), (x[:, shots:], y[:, shots:])
