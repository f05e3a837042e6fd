"""Freeze-thaw: trials are paused, and continued when their curve promises the most information.

    a* = argmax_a  H[P_min] − E_{y_a}[ H[P_min | y_a] ],   P_min(n) = p(f_n is the least)

over a basket of trials: old ones and new λ, those with the greatest expected improvement. f_n is
where curve n will end and y_a the next observation of a: another unit of an old trial, the first of
a new one. Of actions with as much information, that of the greatest expected improvement.

Swersky, Snoek and Adams (2014), "Freeze-Thaw Bayesian Optimization", arXiv:1406.3896, Algorithm 1.
"""

import contextlib
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats

from shohypernet._internal import validation
from shohypernet.search import _checks as checks
from shohypernet.search import _learning_curves as learning_curves
from shohypernet.search import _slice_sampling as slice_sampling
from shohypernet.search._base import Asker, Proposal, Search, generator, queued, rows
from shohypernet.search._gaussian_process import improvement, one_thread
from shohypernet.search._learning_curves import Curves, Posterior
from shohypernet.search._unit_cube import EDGE, UnitCube, unit_cube
from shohypernet.types import Hyperparams, Key, Space

OLD, NEW = 10, 3  # of the basket, the paper's
CANDIDATES = 200  # for the new ones
NEAR = 0.05  # standard deviation of those of them that are near the best
MODELS = 5  # states of the chain that are averaged over
BURN_IN = 20
FANTASIES = 5  # of an observation
DRAWS = 300  # of the ends, to count which is least
TIE = 0.003  # nats, less than which the draws don't tell apart


class State(NamedTuple):
    """State of `freeze_thaw`: the curves, and the chain of parameters.

    Attributes:
      points: trials as points of the unit cube, shape (N, D).
      values: losses of each after 1, 2, … units, shape (N, units); infinite where it diverged.
      lengths: units that each has had, shape (N,).
      chain: last states of the chain of the model's parameters.
      first: λ to begin with, None once they were asked for.
    """

    points: np.ndarray
    values: np.ndarray
    lengths: np.ndarray
    chain: list[np.ndarray]
    first: Hyperparams | None = None


def freeze_thaw(*, unit_steps: int, units: int = 10, initial: int = 5) -> Search:
    """Freeze-thaw Bayesian optimization, for about ten hyperparameters at most.

    Args:
      unit_steps: updates of w from one validation of a trial to the next.
      units: the most units that one trial gets.
      initial: trials that get a first unit before there is a model, a Latin hypercube.

    Returns:
      A Search without end, that proposes one trial at a time.

    Raises:
      ValueError: for sizes below 1, or below 2 for `initial`; by `run`, for an empty space.

    Reference:
      Algorithm 1 of arXiv:1406.3896.
    """
    validation.whole("freeze_thaw", unit_steps=unit_steps, units=units)
    checks.initial("freeze_thaw", initial)

    def bind(space: Space, like: Hyperparams) -> Asker:
        cube = unit_cube(space, like)

        def ask(key: Key, state: State) -> tuple[State, Proposal]:
            rng = generator(key)
            if np.isfinite(state.values[state.lengths > 0]).any():
                with one_thread():
                    chosen, state = _choose(rng, cube, state, units)
                points = state.points[chosen]
            else:
                wanted = max(initial, rows(state.first))
                points = scipy.stats.qmc.LatinHypercube(cube.size, rng=rng).random(wanted)
                begun, _ = queued(state.first and cube.points(state.first), points)
                chosen = np.arange(len(state.points), len(state.points) + wanted)
                state = _with_points(state, cube.project(begun))
            kept = np.flatnonzero(_thawable(state, units))
            hyperparams, first = queued(state.first, cube.hyperparams(points))
            state = state._replace(first=first)
            return state, Proposal(chosen, hyperparams, unit_steps, kept)

        start = State(np.zeros((0, cube.size)), np.zeros((0, units)), np.zeros(0, int), [])
        return Asker(
            lambda key: start,
            ask,
            _tell,
            lambda state, hyperparams: state._replace(first=hyperparams),
        )

    settings = {"method": "freeze_thaw", "units": units, "initial": initial}
    return Search(bind, unit_steps, settings)


def _tell(state: State, proposal: Proposal, losses: np.ndarray) -> State:
    values, lengths = state.values.copy(), state.lengths.copy()
    values[proposal.trials, lengths[proposal.trials]] = losses
    lengths[proposal.trials] += 1
    return state._replace(values=values, lengths=lengths)


def information_gain(
    rng: np.random.Generator, known: Posterior, basket: np.ndarray, actions: np.ndarray
) -> np.ndarray:
    """H[P_min] − E_{y_a}[ H[P_min | y_a] ] of each action, in nats, shape (A,).

    An observation of a moves the ends in the basket by cov(f, y_a) / var(y_a) · (y_a − E y_a), and
    lessens their covariance by cov(f, y_a) cov(f, y_a)ᵀ / var(y_a).

    Args:
      rng: of the draws that P_min is counted from; all actions share them.
      known: the posterior over all curves.
      basket: those among which the least is sought, shape (B,).
      actions: curves that may be observed next, shape (A,).
    """
    noise = rng.normal(size=(DRAWS, len(basket)))
    quantiles = scipy.special.ndtri((np.arange(FANTASIES) + 0.5) / FANTASIES)
    mean, covariance = known.mean[basket], known.covariance[np.ix_(basket, basket)]

    def entropy(means: np.ndarray, covariance: np.ndarray) -> float:
        """Mean entropy of P_min over several means, shape (K, B)."""
        draws = means[:, None] + noise @ _root(covariance).T
        chances = np.mean(draws.argmin(axis=2)[..., None] == np.arange(len(basket)), axis=1)
        return float(scipy.special.entr(chances).sum(axis=1).mean())

    before = entropy(mean[None], covariance)
    gains = []
    for action in actions:
        shift = known.gain[action] * known.covariance[basket, action]
        shift = shift / np.sqrt(known.next_variance[action])
        means = mean + quantiles[:, None] * shift
        gains.append(before - entropy(means, covariance - np.outer(shift, shift)))
    return np.array(gains)


def _choose(
    rng: np.random.Generator, cube: UnitCube, state: State, units: int
) -> tuple[np.ndarray, State]:
    """The curve to be observed next, as an array of one, and the state with it."""
    values, count = _standardized(state), len(state.points)
    old = Curves(cube.features(state.points), values, state.lengths)
    chain = _advance(rng, old, state.chain)
    last = values[np.arange(count), state.lengths - 1]
    near = state.points[np.argmin(last)] + NEAR * rng.normal(size=(CANDIDATES // 2, cube.size))
    candidates = np.concatenate([rng.random((CANDIDATES // 2, cube.size)), near])
    candidates = cube.project(np.clip(candidates, EDGE, 1 - EDGE))
    curves = Curves(
        np.concatenate([old.inputs, cube.features(candidates)]),
        np.pad(values, ((0, CANDIDATES), (0, 0))),
        np.pad(state.lengths, (0, CANDIDATES)),
    )
    known = [learning_curves.posterior(learning_curves.unpack(flat), curves) for flat in chain]
    promise = np.mean([_improvement(each, count) for each in known], axis=0)
    olds = np.argsort(-promise[:count])[:OLD]
    news = count + np.argsort(-promise[count:])[:NEW]
    basket = np.concatenate([olds, news])
    actions = np.concatenate([olds[_thawable(state, units)[olds]], news])
    gains = [information_gain(rng, each, basket, actions) for each in known]
    gain = np.mean(gains, axis=0)
    tied = actions[gain >= gain.max() - TIE]
    best = tied[np.argmax(promise[tied])]
    state = state._replace(chain=chain)
    if best < count:
        return np.array([best]), state
    return np.array([count]), _with_points(state, candidates[best - count][None])


def _improvement(known: Posterior, observed: int) -> np.ndarray:
    """Expected improvement of each end on the least mean of those that were observed."""
    deviation = np.sqrt(np.maximum(np.diag(known.covariance), 1e-12))
    return improvement(known.mean[:observed].min() - known.mean, deviation)


def _advance(rng: np.random.Generator, curves: Curves, chain: list[np.ndarray]) -> list[np.ndarray]:
    """The chain a sweep later, its oldest state dropped; MODELS states after a burn-in at first."""

    def log_density(flat: np.ndarray) -> float:
        try:
            likelihood = learning_curves.log_likelihood(learning_curves.unpack(flat), curves)
        except np.linalg.LinAlgError:  # no Cholesky factor: too smooth to be true
            return -np.inf
        return likelihood + learning_curves.log_prior(flat)

    flat = chain[-1] if chain else learning_curves.prior_mean(curves.inputs.shape[1])
    for _ in range(1 if chain else BURN_IN + MODELS):
        flat = slice_sampling.sweep(rng, log_density, flat)
        chain = [*chain, flat]
    return chain[-MODELS:]


def _standardized(state: State) -> np.ndarray:
    """The observations with mean 0 and deviation 1; an infinite one counts as the worst."""
    seen = np.arange(state.values.shape[1]) < state.lengths[:, None]
    finite = state.values[seen & np.isfinite(state.values)]
    values = np.where(np.isfinite(state.values), state.values, finite.max())
    return np.where(seen, (values - values[seen].mean()) / (values[seen].std() or 1.0), 0.0)


def _thawable(state: State, units: int) -> np.ndarray:
    """Which trials may go on, shape (N,): those that are neither finished nor diverged."""
    seen = np.arange(units) < state.lengths[:, None]
    return (state.lengths < units) & np.all(np.isfinite(state.values) | ~seen, axis=1)


def _with_points(state: State, points: np.ndarray) -> State:
    more = ((0, len(points)), (0, 0))
    return state._replace(
        points=np.concatenate([state.points, points]),
        values=np.pad(state.values, more),
        lengths=np.pad(state.lengths, more[0]),
    )


def _root(covariance: np.ndarray) -> np.ndarray:
    """Its Cholesky factor, which changes little with it, so that actions can share draws.

    Rounding may leave a covariance of small rank with eigenvalues below 0; they are lifted by as
    little as serves.
    """
    level = max(np.diag(covariance).max(), np.finfo(float).tiny)
    for lift in 10.0 ** np.arange(-8, 1):
        with contextlib.suppress(np.linalg.LinAlgError):
            return np.linalg.cholesky(covariance + lift * level * np.eye(len(covariance)))
    raise np.linalg.LinAlgError(f"no covariance at all: {covariance}")
