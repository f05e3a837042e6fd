"""Tree-structured Parzen estimators, and Optuna's other samplers, in populations.

    l(λ) = p(λ | L < y*),  g(λ) = p(λ | L ≥ y*);   λ_next = argmax of l(λ) / g(λ) among draws from l

Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for Hyper-Parameter Optimization". The
densities are Optuna's (Akiba et al., 2019, arXiv:1907.10902); the trainings are our driver's. With
a storage, processes and machines share one study, which outlives any of them.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet.search import _checks as checks
from shohypernet.search._base import Proposal, Search
from shohypernet.search._unit_cube import cube

DEFAULT_NAME = "shohypernet"
DEFAULT_HEARTBEAT = 60


class State(NamedTuple):
    """The study, which holds all that was tried and found.

    Attributes:
      study: an `optuna_study.Study`; its `optuna` is the Optuna study.
    """

    study: Any


def tpe(
    space: Any,
    like: Any,
    *,
    steps: int,
    population: int = 1,
    trials: int | None = None,
    storage: str | None = None,
    study_name: str = DEFAULT_NAME,
    heartbeat: int = DEFAULT_HEARTBEAT,
) -> Search:
    """Search by tree-structured Parzen estimators; see `optuna_search` for the arguments.

    Reference:
      Bergstra, Bardenet, Bengio and Kégl (2011); Optuna's `TPESampler`.
    """
    return optuna_search(
        space,
        like,
        lambda seed: _optuna().samplers.TPESampler(seed=seed),
        steps=steps,
        population=population,
        trials=trials,
        storage=storage,
        study_name=study_name,
        heartbeat=heartbeat,
    )


def optuna_search(
    space: Any,
    like: Any,
    sampler: Callable[[int], Any],
    *,
    steps: int,
    population: int = 1,
    trials: int | None = None,
    storage: str | None = None,
    study_name: str = DEFAULT_NAME,
    heartbeat: int = DEFAULT_HEARTBEAT,
) -> Search:
    """Search by one of Optuna's samplers.

    Args:
      space: a tree of specs from `hyperparameters`, a prefix of `like`.
      like: a tree of arrays that gives the hyperparameters' shapes; up to a hundred numbers or so.
      sampler: makes a sampler from a seed, such as `lambda seed: CmaEsSampler(seed=seed)`. It is
        called for each trial; one that keeps to a sequence, as `QMCSampler`, ignores the seed.
      steps: updates of w for each training.
      population: trainings a proposal.
      trials: trainings to complete, by all processes that share the study; None for no end.
      storage: an SQLAlchemy URL such as "sqlite:///study.db" or "postgresql://…", where the study
        is kept and shared; None for memory. All seeds of a run share it then.
      study_name: of the study there.
      heartbeat: seconds from one sign of life to the next. A trial without any for twice as long is
        that of a dead process, and whoever asks next picks it up.

    Returns:
      A Search that ends after `trials`. A diverged training is a failed trial.

    Raises:
      ValueError: for an empty space, or sizes below 1.
      ImportError: without Optuna.
    """
    checks.whole("optuna_search", steps=steps, population=population, heartbeat=heartbeat)
    if trials is not None:
        checks.whole("optuna_search", trials=trials)
    cell = cube(space, like)
    _optuna()
    from shohypernet.search._optuna_study import Study

    def init(key: jax.Array) -> State:
        entropy = np.asarray(jax.random.key_data(key)).tolist()
        return State(Study(study_name, storage, sampler, entropy, cell, heartbeat))

    def ask(key: jax.Array, state: State) -> tuple[State, Proposal | None]:
        del key  # a trial's randomness comes from its number
        study = state.study
        while True:
            places, waiting = study.places(trials, population)
            asked = [study.ask() for _ in range(places)]
            numbers = [trial.number for trial, _ in asked]
            surplus = study.surplus(numbers, trials)
            for number in surplus:
                study.tell(number, np.inf)
            asked = [pair for pair in asked if pair[0].number not in surplus]
            if asked:
                break
            if not waiting:
                return state, None
            time.sleep(min(heartbeat, 1))  # another process may die and leave its trial
        numbers = np.array([trial.number for trial, _ in asked])
        study.start_beating(numbers.tolist())
        hyperparams = cell.encode(np.stack([values for _, values in asked]))
        return state, Proposal(numbers, hyperparams, steps, kept=np.array([], int))

    def tell(state: State, proposal: Proposal, losses: np.ndarray) -> State:
        for number, loss in zip(proposal.trials.tolist(), losses.tolist(), strict=True):
            state.study.tell(number, loss)
        state.study.stop_beating()
        return state

    return Search(init, ask, tell, steps)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "searches by tpe() and optuna_search() need Optuna: pip install 'shohypernet[search]'"
        ) from error
    return optuna
