"""One seed's search: what it spent, what it paused, and the best that it found.

Weights and optimizer states of paused trials wait in the host's memory.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet.inner_loop import TrainState
from shohypernet.search._base import Asker, Proposal
from shohypernet.search._populations import Job, Outcome
from shohypernet.types import Hyperparams, Key, ModelState, Params


class Best(NamedTuple):
    """The trial that validated best; see `SearchResult`."""

    unconstrained: Hyperparams
    params: Params
    model_state: ModelState
    valid_loss: float
    test_loss: float


class SeedSearch:
    """The search of one seed.

    Args:
      asker: the search, bound to the problem's space.
      key: PRNG key of the search.
      key_runs: PRNG key of its inner runs.
      fresh: state of an inner run before its first step.
      budget: gradient evaluations that it may spend.

    Attributes:
      state: the method's state.
      proposal: the proposal in training, cut to the budget.
      spent: gradient evaluations so far.
      best: the best trial so far, None before the first finite loss.
    """

    def __init__(
        self, asker: Asker, key: Key, key_runs: Key, fresh: TrainState, budget: int
    ) -> None:
        """Initialize the method's state."""
        self._asker, self._budget, self._turn = asker, budget, 0
        self._key, self._key_runs, self._fresh = key, key_runs, fresh
        self.state = asker.init(jax.random.fold_in(key, 0))
        self._steps: dict[int, int] = {}  # of every trial seen
        self._paused: dict[int, TrainState] = {}
        self.spent = 0
        self._rows: list[tuple[Any, ...]] = []
        self._hyperparams: list[Hyperparams] = []
        self._asked: Proposal | None = None  # before the budget cut it
        self._ended = False
        self.best: Best | None = None

    def ask(self) -> bool:
        """Get the next proposal, cut to the budget; false if there is none."""
        if self._ended:
            return False
        self._turn += 1
        key = jax.random.fold_in(self._key, self._turn)
        self.state, self._asked = self._asker.ask(key, self.state)
        if self._asked is None:
            self._ended = True
            return False
        affordable = (self._budget - self.spent) // self._asked.steps
        self._ended = affordable <= len(self._asked.trials)
        if not affordable:
            self.give_up()
            return False
        self.proposal = self._asked._replace(
            trials=np.asarray(self._asked.trials)[:affordable],
            hyperparams=jax.tree.map(lambda leaf: leaf[:affordable], self._asked.hyperparams),
        )
        return True

    def job(self) -> Job:
        """The proposal, with the states that it continues from.

        Raises:
          ValueError: for trials whose weights were released, or with other steps than the others.
        """
        trials = self.proposal.trials.tolist()
        gone = [trial for trial in trials if trial in self._steps and trial not in self._paused]
        done = {self._steps.get(trial, 0) for trial in trials}
        if gone or len(done) != 1:
            raise ValueError(
                f"the search asked for trials {trials} in one proposal, but the weights of {gone} "
                f"weren't kept, and they have had {sorted(done)} steps; keep what is continued, "
                "and propose trials with as many steps together."
            )
        states = [self._paused.get(trial, self._fresh) for trial in trials]
        return Job(self._key_runs, states, self.proposal.hyperparams, done.pop())

    def tell(self, outcome: Outcome, seconds: float) -> None:
        """Record the outcome of the proposal, and tell the method."""
        proposal, asked = self.proposal, self._asked
        assert asked is not None
        hyperparams = jax.tree.map(np.asarray, proposal.hyperparams)
        for i, trial in enumerate(proposal.trials.tolist()):
            self._steps[trial] = self._steps.get(trial, 0) + proposal.steps
            self.spent += proposal.steps
            valid, test = float(outcome.valid_loss[i]), float(outcome.test_loss[i])
            self._rows.append((trial, self._steps[trial], self.spent, seconds, valid, test))
            if np.isfinite(valid) and (self.best is None or valid < self.best.valid_loss):
                chosen = jax.tree.map(lambda leaf, i=i: leaf[i], hyperparams)
                state = jax.tree.map(np.array, outcome.states[i])
                self.best = Best(chosen, state.params, state.model_state, valid, test)
        self._hyperparams.append(hyperparams)
        self._keep(proposal, outcome)
        losses = np.full(len(asked.trials), np.nan)
        finite = np.isfinite(outcome.valid_loss)
        losses[: len(finite)] = np.where(finite, outcome.valid_loss, np.inf)
        self._asked = None
        self.state = self._asker.tell(self.state, asked, losses)

    def _keep(self, proposal: Proposal, outcome: Outcome) -> None:
        new = dict(zip(proposal.trials.tolist(), outcome.states, strict=True))
        # A copy of the new, for a view would hold on to the whole population.
        self._paused = {
            trial: jax.tree.map(np.array, new[trial]) if trial in new else self._paused[trial]
            for trial in np.asarray(proposal.kept).tolist()
            if trial in new or trial in self._paused
        }

    def give_up(self) -> None:
        """Tell the method that a proposal which it still waits for wasn't trained."""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            losses = np.full(len(asked.trials), np.nan)
            self.state = self._asker.tell(self.state, asked, losses)

    def measurements(self) -> tuple[list[np.ndarray], Hyperparams]:
        """Columns of `Measured` without the hyperparameters, and those, unconstrained."""
        unconstrained = jax.tree.map(lambda *leaves: np.concatenate(leaves), *self._hyperparams)
        return [np.array(column) for column in zip(*self._rows, strict=True)], unconstrained
