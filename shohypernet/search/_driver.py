"""The one driver of black-box searches: trains what they ask for, counts, and remembers.

Seeds go side by side: each is asked for a proposal, the proposals are trained in the same waves,
and each is told its losses. Paused weights and optimizer states wait in the host's memory.
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from shohypernet.batches import Data
from shohypernet.fitting._driver import NonFiniteLoss
from shohypernet.fitting._plan import distinct_seeds, splits
from shohypernet.inner_loop import TrainState as Training
from shohypernet.problem import Problem
from shohypernet.search import _checks as checks
from shohypernet.search._base import Proposal, Search
from shohypernet.search._populations import Job, Outcome, Waves

DEFAULT_MEMORY = 2**30


class Measured(NamedTuple):
    """What one seed's search measured: a row each time that a training was stopped, N rows.

    Attributes:
      trial: which training, shape (N,).
      steps: updates of w that it had had in all, shape (N,).
      gradient_evaluations: what the search had spent by then, had the trainings of a proposal been
        done one after another, shape (N,); the unit of `Info.gradient_evaluations`.
      seconds: time since the search began, compilation of the trainings apart, shape (N,).
      valid_loss: the problem's `valid_loss` on all validation examples, shape (N,).
      test_loss: likewise on the test examples, shape (N,). Nothing is chosen by it.
      hyperparams: λ, unconstrained, a tree with leaves (N, ...).
    """

    trial: np.ndarray
    steps: np.ndarray
    gradient_evaluations: np.ndarray
    seconds: np.ndarray
    valid_loss: np.ndarray
    test_loss: np.ndarray
    hyperparams: Any


class Result(NamedTuple):
    """What `run` returns; the first four lead with the seed axis.

    Attributes:
      hyperparams: λ of the training that validated best, unconstrained.
      params: its weights.
      valid_loss: its validation loss, shape (S,).
      test_loss: its test loss, shape (S,).
      measured: the way there, one a seed.
      states: the method's last state, one a seed.
      compile_seconds: time spent in compiling, which `Measured.seconds` leaves out.
    """

    hyperparams: Any
    params: Any
    valid_loss: np.ndarray
    test_loss: np.ndarray
    measured: list[Measured]
    states: list[Any]
    compile_seconds: float


class _Best(NamedTuple):
    hyperparams: Any
    params: Any
    valid_loss: float
    test_loss: float


def run(
    problem: Problem,
    method: Search,
    data: Data,
    *,
    optimizer: optax.GradientTransformation,
    budget: int,
    seeds: Iterable[int] = (0,),
    batch_size: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: bool | None = None,
) -> Result:
    """Tunes hyperparameters by a black-box search, for every seed side by side.

    Args:
      problem: what is tuned.
      method: which λ are tried, and for how long each is trained.
      data: three splits of examples, each a tree of arrays with a shared leading axis.
      optimizer: α, the optimizer of the weights.
      budget: gradient evaluations that each seed may spend: updates of w, over all its trainings.
      seeds: one search for each.
      batch_size: examples a step, drawn with replacement; None takes all of them.
      memory: bytes that a wave of trainings may take besides the data, by the compiler's account.
      progress: whether to show a progress bar; by default when standard error is a terminal.

    Returns:
      The best training's hyperparameters and weights, and all that was measured.

    Raises:
      ValueError: for a budget below one training, a bad size, bad data, memory for no training, or
        a search that has nothing to do.
      NonFiniteLoss: if every training of a seed diverged.

    Reference:
      Algorithm 1 of arXiv:1802.09419.
    """
    checks.whole("search.run", budget=budget, memory=memory)
    if batch_size is not None:
        checks.whole("search.run", batch_size=batch_size)
    if budget < method.steps:
        raise ValueError(
            f"a budget of {budget} gradient evaluations is below one training of {method.steps} "
            "steps; allow more, or give the method fewer steps."
        )
    seeds = distinct_seeds(seeds, "search.run")
    data = splits(data, "search.run")
    waves = Waves(problem, optimizer, data, batch_size, memory)
    runs = [_Run(method, jax.random.key(seed), waves, budget) for seed in seeds]
    began = time.perf_counter()
    quiet = None if progress is None else not progress
    with tqdm(total=budget * len(seeds), unit=" gradients", disable=quiet) as bar:
        while True:
            asked = [each for each in runs if each.ask()]
            if not asked:
                break
            try:
                for steps in sorted({each.proposal.steps for each in asked}):
                    group = [each for each in asked if each.proposal.steps == steps]
                    outcomes = waves.run([each.job() for each in group], steps)
                    seconds = time.perf_counter() - began - waves.compile_seconds
                    for each, outcome in zip(group, outcomes, strict=True):
                        bar.update(steps * len(outcome.valid_loss))
                        each.tell(outcome, seconds)
            finally:
                for each in asked:
                    each.give_up()
            found = [each.best.valid_loss for each in runs if each.best]
            bar.set_postfix(valid=f"{np.mean(found):.4g}" if found else "none", refresh=False)
    return _result(runs, seeds, waves.compile_seconds)


def best_so_far(measured: Measured) -> tuple[np.ndarray, np.ndarray]:
    """The least validation loss at each row, and the test loss of the same weights, shapes (N,)."""
    losses = np.where(np.isfinite(measured.valid_loss), measured.valid_loss, np.inf)
    leads = losses <= np.minimum.accumulate(losses)
    leader = np.maximum.accumulate(np.where(leads, np.arange(len(losses)), 0))
    return losses[leader], measured.test_loss[leader]


class _Run:
    """One seed's search."""

    def __init__(self, method: Search, key: jax.Array, waves: Waves, budget: int) -> None:
        self._method, self._budget, self._round = method, budget, 0
        self._key_search, self._key_training = jax.random.split(key)
        self.state = method.init(jax.random.fold_in(self._key_search, 0))
        self._fresh = waves.start(self._key_training)
        self._steps: dict[int, int] = {}  # of every trial seen
        self._paused: dict[int, Training] = {}
        self.spent = 0
        self._rows: list[tuple[Any, ...]] = []
        self._hyperparams: list[Any] = []
        self._whole: Proposal | None = None  # as asked, before the budget cut it
        self._ended = False
        self.best: _Best | None = None

    def ask(self) -> bool:
        """Gets the next proposal, cut to the budget; false if there is none."""
        if self._ended:
            return False
        self._round += 1
        key = jax.random.fold_in(self._key_search, self._round)
        self.state, self._whole = self._method.ask(key, self.state)
        if self._whole is None:
            self._ended = True
            return False
        affordable = (self._budget - self.spent) // self._whole.steps
        self._ended = affordable <= len(self._whole.trials)
        if not affordable:
            self.give_up()
            return False
        self.proposal = self._whole._replace(
            trials=np.asarray(self._whole.trials)[:affordable],
            hyperparams=jax.tree.map(lambda leaf: leaf[:affordable], self._whole.hyperparams),
        )
        return True

    def job(self) -> Job:
        """The proposal, with the weights that it goes on from."""
        trials = self.proposal.trials.tolist()
        gone = [trial for trial in trials if trial in self._steps and trial not in self._paused]
        done = {self._steps.get(trial, 0) for trial in trials}
        if gone or len(done) != 1:
            raise ValueError(
                f"the search asked for trials {trials} in one proposal, but the weights of {gone} "
                f"weren't kept, and they have had {sorted(done)} steps; keep what is gone on with, "
                "and propose trainings of one age together."
            )
        trainings = [self._paused.get(trial, self._fresh) for trial in trials]
        return Job(self._key_training, trainings, self.proposal.hyperparams, done.pop())

    def tell(self, outcome: Outcome, seconds: float) -> None:
        """Remembers what came of the proposal, and tells the method."""
        proposal, whole = self.proposal, self._whole
        assert whole is not None
        hyperparams = jax.tree.map(np.asarray, proposal.hyperparams)
        for i, trial in enumerate(proposal.trials.tolist()):
            self._steps[trial] = self._steps.get(trial, 0) + proposal.steps
            self.spent += proposal.steps
            valid, test = float(outcome.valid_loss[i]), float(outcome.test_loss[i])
            self._rows.append((trial, self._steps[trial], self.spent, seconds, valid, test))
            if np.isfinite(valid) and (self.best is None or valid < self.best.valid_loss):
                chosen = jax.tree.map(lambda leaf, i=i: leaf[i], hyperparams)
                params = jax.tree.map(np.array, outcome.trainings[i].params)
                self.best = _Best(chosen, params, valid, test)
        self._hyperparams.append(hyperparams)
        new = dict(zip(proposal.trials.tolist(), outcome.trainings, strict=True))
        # A copy of the new, for a view would hold on to the whole wave.
        self._paused = {
            trial: jax.tree.map(np.array, new[trial]) if trial in new else self._paused[trial]
            for trial in np.asarray(proposal.kept).tolist()
            if trial in new or trial in self._paused
        }
        losses = np.full(len(whole.trials), np.inf)
        finite = np.isfinite(outcome.valid_loss)
        losses[: len(finite)] = np.where(finite, outcome.valid_loss, np.inf)
        self._whole = None
        self.state = self._method.tell(self.state, whole, losses)

    def give_up(self) -> None:
        """Tells the method that a proposal which it still waits for wasn't trained."""
        if self._whole is not None:
            whole, self._whole = self._whole, None
            losses = np.full(len(whole.trials), np.inf)
            self.state = self._method.tell(self.state, whole, losses)

    def measured(self) -> Measured:
        hyperparams = jax.tree.map(lambda *leaves: np.concatenate(leaves), *self._hyperparams)
        trial, steps, spent, seconds, valid, test = map(np.array, zip(*self._rows, strict=True))
        return Measured(trial, steps, spent, seconds, valid, test, hyperparams)


def _result(runs: list[_Run], seeds: list[int], compile_seconds: float) -> Result:
    idle = [seed for seed, each in zip(seeds, runs, strict=True) if not each.spent]
    if idle:
        raise ValueError(
            f"the search of seeds {idle} ended before its first training: all that it has to do "
            "was done, by another process if it shares a study. Give it more to do."
        )
    lost = [seed for seed, each in zip(seeds, runs, strict=True) if each.best is None]
    if lost:
        raise NonFiniteLoss(
            f"every training of seeds {lost} ended with a validation loss that is not finite. A "
            "step size too large for some λ of the space is the usual cause: try a smaller one, "
            "optax.clip_by_global_norm, or a narrower space."
        )
    best = [each.best for each in runs if each.best]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *best)
    return Result(
        jax.tree.map(jnp.asarray, stacked.hyperparams),
        jax.tree.map(jnp.asarray, stacked.params),
        stacked.valid_loss,
        stacked.test_loss,
        [each.measured() for each in runs],
        [each.state for each in runs],
        compile_seconds,
    )
