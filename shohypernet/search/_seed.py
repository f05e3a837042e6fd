"""One seed's search: what it spent, what it paused, and the best that it found.

Weights and optimizer states of paused trials wait in the host's memory.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet.fitting._identity import describe
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
      key: PRNG key of the search and its inner runs.
      budget: gradient evaluations that it may spend.

    Attributes:
      state: the method's state.
      proposal: the proposal in training, cut to the budget.
      spent: gradient evaluations so far.
      best: the best trial so far, None before the first finite loss.
      last: the last proposal and its losses, as JSON can hold them.
      recalls: whether the method's trials outlive the run, and can't be asked for again.
    """

    def __init__(self, asker: Asker, key: Key, budget: int) -> None:
        """Initialize the method's state."""
        self._asker, self._budget, self._turn = asker, budget, 0
        self._key, self._key_runs = jax.random.split(key)
        self.state = asker.init(jax.random.fold_in(self._key, 0))
        self._steps: dict[int, int] = {}  # of every trial seen
        self._paused: dict[int, TrainState] = {}
        self._at: dict[int, Hyperparams] = {}  # λ of those
        self.spent = 0
        self._told: list[tuple[list[tuple[Any, ...]], Hyperparams]] = []  # rows and λ of each turn
        self._asked: Proposal | None = None  # before the budget cut it
        self._losses: list[float] = []  # of its first trials
        self._ended = False
        self.best: Best | None = None
        self.last: dict[str, Any] = {}
        self.recalls = asker.recall is not None

    def identify(self, identity: Mapping[str, str]) -> None:
        """Refuse trials of another search that the method has from before this run.

        Raises:
          ValueError: naming what differs.
        """
        if self._asker.identify:
            self._asker.identify(self.state, identity)

    def enqueue(self, hyperparams: Hyperparams | None) -> None:
        """Have some λ, unconstrained, leaves (K, ...), tried before any others.

        Raises:
          ValueError: for a search that can't.
        """
        if hyperparams is None:
            return
        if self._asker.enqueue is None:
            raise ValueError(
                "search.run() can't begin with first=..., for this search has no `enqueue`."
            )
        self.state = self._asker.enqueue(self.state, hyperparams)

    def ask(self) -> bool:
        """Get the next proposal, or the rest of one, cut to the budget; false if there is none."""
        if self._ended:
            return False
        if self._asked is None:
            self._turn += 1
            key = jax.random.fold_in(self._key, self._turn)
            self.state, self._asked = self._asker.ask(key, self.state)
            self._losses = []
        if self._asked is None:
            self._ended = True
            return False
        affordable = (self._budget - self.spent) // self._asked.steps
        left = len(self._asked.trials) - len(self._losses)
        self._ended = affordable <= left
        self.shorten(affordable)
        return affordable > 0

    def shorten(self, count: int) -> None:
        """Make the proposal the next trials of those that were asked for, so many at most."""
        assert self._asked is not None
        chosen = slice(len(self._losses), len(self._losses) + count)
        self.proposal = self._asked._replace(
            trials=np.asarray(self._asked.trials)[chosen],
            hyperparams=jax.tree.map(lambda leaf: leaf[chosen], self._asked.hyperparams),
        )

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
        states = [self._paused.get(trial) for trial in trials]
        return Job(self._key_runs, states, self.proposal.hyperparams, done.pop())

    def recall(self, trials: list[int], steps: int) -> None:
        """Make a proposal of trials that the method knows from before this run."""
        assert self._asker.recall is not None
        numbers = np.array(trials)
        self.proposal = Proposal(numbers, self._asker.recall(self.state, numbers), steps)

    def tell(self, outcome: Outcome, seconds: float) -> None:
        """Record the outcome of the proposal, and tell the method if it asked for that."""
        proposal = self.proposal
        hyperparams = jax.tree.map(np.asarray, proposal.hyperparams)
        rows = []
        for i, trial in enumerate(proposal.trials.tolist()):
            self._steps[trial] = self._steps.get(trial, 0) + proposal.steps
            self.spent += proposal.steps
            valid, test = float(outcome.valid_loss[i]), float(outcome.test_loss[i])
            rows.append((trial, self._steps[trial], self.spent, seconds, valid, test))
            if np.isfinite(valid) and (self.best is None or valid < self.best.valid_loss):
                chosen = jax.tree.map(lambda leaf, i=i: leaf[i], hyperparams)
                state = jax.tree.map(np.array, outcome.states[i])
                self.best = Best(chosen, state.params, state.model_state, valid, test)
        self._told.append((rows, hyperparams))  # at once, for a Ctrl-C may come in between
        self._keep(proposal, outcome)
        self.last = {
            "trials": proposal.trials.tolist(),
            "steps": proposal.steps,
            "hyperparams": describe(hyperparams, contents=True),
            "seconds": seconds,
            "valid_loss": [float(loss) for loss in outcome.valid_loss],
            "test_loss": [float(loss) for loss in outcome.test_loss],
        }
        if self._asked is not None:
            finite = np.isfinite(outcome.valid_loss)
            self._losses += np.where(finite, outcome.valid_loss, np.inf).tolist()
            if len(self._losses) == len(self._asked.trials):
                self.give_up()

    def _keep(self, proposal: Proposal, outcome: Outcome) -> None:
        new = dict(zip(proposal.trials.tolist(), outcome.states, strict=True))
        # With what the budget leaves for a resumed run.
        done = len(self._losses) + len(new)
        waiting = [] if self._asked is None else np.asarray(self._asked.trials)[done:].tolist()
        # A copy of the new, for a view would hold on to the whole population.
        self._paused = {
            trial: jax.tree.map(np.array, new[trial]) if trial in new else self._paused[trial]
            for trial in dict.fromkeys(np.asarray(proposal.kept).tolist() + waiting)
            if trial in new or trial in self._paused
        }
        rows = enumerate(proposal.trials.tolist())
        at = {t: jax.tree.map(lambda leaf, i=i: leaf[i], proposal.hyperparams) for i, t in rows}
        self._at = {trial: at.get(trial, self._at.get(trial)) for trial in self._paused}

    def weights(self, like: Callable[[Hyperparams], TrainState] | None = None) -> Any:
        """Weights of the best trial and states of the paused ones, or their shapes at their λ."""
        paused = self._paused
        if like:
            paused = {trial: like(at) for trial, at in self._at.items()}
        if self.best is None:
            return (), paused
        best = like(self.best.unconstrained) if like else self.best
        return (best.params, best.model_state), paused

    def restore(self, weights: Any) -> None:
        """Take over what `weights` gave."""
        best, self._paused = weights
        if self.best is not None:
            params, model_state = best
            self.best = self.best._replace(params=params, model_state=model_state)

    def give_up(self) -> None:
        """Tell the method the losses of what it asked for, NaN for what wasn't trained."""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            losses = np.full(len(asked.trials), np.nan)
            losses[: len(self._losses)] = self._losses
            self.state = self._asker.tell(self.state, asked, losses)

    def measurements(self) -> tuple[list[np.ndarray], Hyperparams]:
        """Columns of `Measured` without the hyperparameters, and those, unconstrained."""
        rows = [row for told, _ in self._told for row in told]
        hyperparams = [each for _, each in self._told]
        unconstrained = jax.tree.map(lambda *leaves: np.concatenate(leaves), *hyperparams)
        return [np.array(column) for column in zip(*rows, strict=True)], unconstrained
