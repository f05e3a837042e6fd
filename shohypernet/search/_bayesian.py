"""Bayesian optimization: expected improvement under a Gaussian process, parameters marginalized.

    u_next = argmax_u  (1/M) Σ_m E_{y_pending ~ GP_m} [ EI(u; θ_m, data ∪ pending) ],
    θ_1 … θ_M ~ p(θ | data) by slice sampling

over the unit cube of the space. A proposal's λ are chosen one after another, those already chosen
being pending: their losses are drawn, as fantasies, from the process itself.

Snoek, Larochelle and Adams (2012), "Practical Bayesian Optimization of Machine Learning
Algorithms", arXiv:1206.2944, sections 3.1, 3.2 and 3.4.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.stats

from shohypernet._internal import validation
from shohypernet.search import _checks as checks
from shohypernet.search import _gaussian_process as gaussian_process
from shohypernet.search import _slice_sampling as slice_sampling
from shohypernet.search._base import Asker, Proposal, Search, generator, queued, rows
from shohypernet.search._gaussian_process import Posterior
from shohypernet.search._unit_cube import EDGE, UnitCube, unit_cube
from shohypernet.types import Hyperparams, Key, Space

KERNELS = 10  # M
FANTASIES = 4  # for each kernel
BURN_IN = 20  # sweeps before the first kernel; later ones continue from the last
CANDIDATES = 500  # all over the unit cube, and as many near the best
NEAR = (0.1, 0.01, 0.001)  # standard deviations of those near the best
CLIMBS = 3  # candidates that are improved by their gradient


class State(NamedTuple):
    """State of `bayesian`.

    Attributes:
      points: trials as points of the unit cube, shape (N, D).
      losses: their validation losses, shape (N,); infinite where the trial diverged.
      parameters: the chain's last (m, log a, log s, log ℓ …), None before it began.
      pending: points that were asked for, shape (P, D).
      first: λ to begin with, None once they were asked for.
    """

    points: np.ndarray
    losses: np.ndarray
    parameters: np.ndarray | None
    pending: np.ndarray
    first: Hyperparams | None = None


def bayesian(*, steps: int, population: int = 1, initial: int = 10) -> Search:
    """Bayesian optimization with expected improvement, for up to some tens of hyperparameters.

    Args:
      steps: updates of w for each trial.
      population: trials in a proposal; 1 gains most from each.
      initial: trials of the first proposal, a Latin hypercube after those to begin with.

    Returns:
      A Search without end.

    Raises:
      ValueError: for sizes below 1, or below 2 for `initial`; by `run`, for an empty space.

    Reference:
      Snoek, Larochelle and Adams (2012), arXiv:1206.2944.
    """
    validation.whole("bayesian", steps=steps, population=population)
    checks.initial("bayesian", initial)

    def bind(space: Space, like: Hyperparams) -> Asker:
        cube = unit_cube(space, like)
        nothing = np.zeros((0, cube.size))

        def ask(key: Key, state: State) -> tuple[State, Proposal]:
            rng = generator(key)
            if not np.isfinite(state.losses).any():
                wanted = max(initial, rows(state.first))
                points = scipy.stats.qmc.LatinHypercube(cube.size, rng=rng).random(wanted)
                pending, _ = queued(state.first and cube.points(state.first), points)
                state = state._replace(pending=cube.project(pending))
            else:
                with gaussian_process.one_thread():
                    state = _choose(rng, cube, state, population)
                points = state.pending
            first = len(state.losses)
            trials = np.arange(first, first + len(state.pending))
            hyperparams, first = queued(state.first, cube.hyperparams(points))
            return state._replace(first=first), Proposal(trials, hyperparams, steps)

        def tell(state: State, proposal: Proposal, losses: np.ndarray) -> State:
            points = np.concatenate([state.points, state.pending])
            return State(points, np.append(state.losses, losses), state.parameters, nothing)

        start = State(nothing, np.zeros(0), None, nothing)
        return Asker(
            lambda key: start,
            ask,
            tell,
            lambda state, hyperparams: state._replace(first=hyperparams),
        )

    settings = {"method": "bayesian", "population": population, "initial": initial}
    return Search(bind, steps, settings)


def _choose(rng: np.random.Generator, cube: UnitCube, state: State, population: int) -> State:
    """The state with the points to be asked for, one chosen after another."""
    inputs, outputs = cube.features(state.points), standardized(state.losses)
    parameters = sample_parameters(rng, inputs, outputs, state.parameters)
    best, pending = state.points[np.argmin(outputs)], state.pending
    for _ in range(population):
        seen = cube.features(pending)
        known = [fantasized(rng, flat, inputs, outputs, seen) for flat in parameters]
        pending = np.concatenate([pending, maximize(rng, cube, known, best)[None]])
    return state._replace(parameters=parameters[-1], pending=pending)


def standardized(losses: np.ndarray) -> np.ndarray:
    """Losses of mean 0 and deviation 1; an infinite one counts as the worst finite one."""
    worst = losses[np.isfinite(losses)].max()
    losses = np.where(np.isfinite(losses), losses, worst)
    return (losses - losses.mean()) / (losses.std() or 1.0)


def sample_parameters(
    rng: np.random.Generator, inputs: np.ndarray, outputs: np.ndarray, last: np.ndarray | None
) -> list[np.ndarray]:
    """M states of the chain over (m, log a, log s, log ℓ …), continued from its last."""

    def log_density(flat: np.ndarray) -> float:
        try:
            likelihood = gaussian_process.log_likelihood(
                gaussian_process.unpack(flat), inputs, outputs
            )
        except np.linalg.LinAlgError:  # no Cholesky factor: too smooth to be true
            return -np.inf
        return likelihood + gaussian_process.log_prior(flat)

    flat = gaussian_process.prior_mean(inputs.shape[1]) if last is None else last
    for _ in range(BURN_IN if last is None else 0):
        flat = slice_sampling.sweep(rng, log_density, flat)
    chain = []
    for _ in range(KERNELS):
        flat = slice_sampling.sweep(rng, log_density, flat)
        chain.append(flat)
    return chain


def fantasized(
    rng: np.random.Generator,
    flat: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
    pending: np.ndarray,
) -> Posterior:
    """The posterior after outputs (N,), and after fantasies of those of the pending inputs."""
    kernel = gaussian_process.unpack(flat)
    known = gaussian_process.posterior(kernel, inputs, outputs[:, None])
    if not len(pending):
        return known
    mean, spread = gaussian_process.predict(known, pending)
    spread = spread + (kernel.noise**2 + gaussian_process.JITTER * kernel.amplitude**2) * np.eye(
        len(pending)
    )
    draws = mean + np.linalg.cholesky(spread) @ rng.normal(size=(len(pending), FANTASIES))
    seen = np.broadcast_to(outputs[:, None], (len(outputs), FANTASIES))
    return gaussian_process.posterior(
        kernel, np.concatenate([inputs, pending]), np.concatenate([seen, draws])
    )


def maximize(
    rng: np.random.Generator, cube: UnitCube, known: list[Posterior], best: np.ndarray
) -> np.ndarray:
    """A point (D,) of the cube with nearly the greatest mean expected improvement.

    The best of random candidates, the continuous coordinates of a few then improved by L-BFGS.
    """
    near = best + np.repeat(NEAR, -(-CANDIDATES // len(NEAR)))[:, None] * rng.normal(
        size=(-(-CANDIDATES // len(NEAR)) * len(NEAR), cube.size)
    )
    candidates = np.concatenate([rng.random((CANDIDATES, cube.size)), near])
    candidates = cube.project(np.clip(candidates, EDGE, 1 - EDGE))
    features = cube.features(candidates)
    values = np.mean([gaussian_process.expected_improvement(k, features) for k in known], axis=0)
    order = np.argsort(-values)[:CLIMBS]
    if not cube.continuous.all() or values[order[0]] <= 0:
        return candidates[order[0]]
    scale = values[order[0]]

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        each = [gaussian_process.improvement_and_slope(k, point) for k in known]
        value, slope = (np.mean(part, axis=0) for part in zip(*each, strict=True))
        return float(-value / scale), -slope / scale

    climbs = [
        scipy.optimize.minimize(
            objective,
            candidates[i],
            jac=True,
            method="L-BFGS-B",
            bounds=[(EDGE, 1 - EDGE)] * cube.size,
            options={"maxiter": 30},
        )
        for i in order
    ]
    return min(climbs, key=lambda climb: climb.fun).x
