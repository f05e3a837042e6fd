"""Tree-structured Parzen estimators, and Optuna's other samplers, in populations.

    l(λ) = p(λ | L < y*),  g(λ) = p(λ | L ≥ y*);   λ_next = argmax of l(λ) / g(λ) among draws from l

Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for Hyper-Parameter Optimization". The
densities are Optuna's (Akiba et al., 2019, arXiv:1907.10902); the trials are trained by our driver.
With a storage, processes and machines share one study, which outlives any of them.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet._internal import validation
from shohypernet.search._base import Asker, Proposal, Search
from shohypernet.search._unit_cube import unit_cube
from shohypernet.types import Hyperparams, Key, Space

DEFAULT_NAME = "shohypernet"
DEFAULT_HEARTBEAT = 60


Storage = Any  # a URL, a path, an optuna.storages.BaseStorage or None; Optuna is an extra


class State(NamedTuple):
    """State of `tpe` and `optuna_search`.

    Attributes:
      study: all that was tried and found; its `optuna` is the Optuna study. In a pickle it is a
        `PastStudy`, for storage, sampler and heartbeats are live.
    """

    study: Any


def tpe(
    *,
    steps: int,
    population: int = 1,
    trials: int | None = None,
    storage: Storage = None,
    study_name: str = DEFAULT_NAME,
    heartbeat: int = DEFAULT_HEARTBEAT,
) -> Search:
    """Search by tree-structured Parzen estimators; see `optuna_search` for the arguments.

    Reference:
      Bergstra, Bardenet, Bengio and Kégl (2011); Optuna's `TPESampler`.
    """
    return optuna_search(
        lambda seed: _optuna().samplers.TPESampler(seed=seed),
        steps=steps,
        population=population,
        trials=trials,
        storage=storage,
        study_name=study_name,
        heartbeat=heartbeat,
    )


def optuna_search(
    sampler: Callable[[int], Any],
    *,
    steps: int,
    population: int = 1,
    trials: int | None = None,
    storage: Storage = None,
    study_name: str = DEFAULT_NAME,
    heartbeat: int = DEFAULT_HEARTBEAT,
) -> Search:
    """Search by one of Optuna's samplers, for up to a hundred hyperparameters or so.

    Args:
      sampler: a function from a seed to a sampler, such as
        `lambda seed: optuna.samplers.NSGAIISampler(seed=seed)`. It is called for each trial; one
        that keeps to a sequence, as `QMCSampler`, ignores the seed. Parameters are named by their
        paths, such as "decay[3]", and a category's choices by their index.
      steps: updates of w for each trial.
      population: trials in a proposal.
      trials: trials to train, diverged ones included, by all processes that share the study; None
        for no end.
      storage: where the study is kept and shared, by all seeds of a run too: an SQLAlchemy URL
        such as "sqlite:///study.db" or "postgresql://…"; a `pathlib.Path` of a journal file, which
        may lie on a network's file system; or a storage of Optuna's. None for memory. A run with
        another space, data, losses, optimizer or number of steps is refused, naming what differs.
      study_name: name of the study there.
      heartbeat: seconds between heartbeats, the same in all processes. A trial without one for
        twice as long is that of a dead process, and whoever asks next picks it up.

    Returns:
      A Search that ends after `trials`, or once an exhaustive sampler has tried all points, which
      `GridSampler` and `BruteForceSampler` say. A diverged trial has an infinite loss in the study.

    Raises:
      ValueError: for sizes below 1; by `run`, for an empty space or a study of another search.
      TypeError: for a sampler in place of a function that makes one.
      ImportError: without Optuna.
    """
    validation.whole("optuna_search", steps=steps, population=population, heartbeat=heartbeat)
    if trials is not None:
        validation.whole("optuna_search", trials=trials)
    if not callable(sampler):
        raise TypeError(
            "optuna_search() needs a function from a seed to a sampler, got "
            f"{type(sampler).__name__}; write lambda seed: {type(sampler).__name__}(seed=seed)."
        )
    _optuna()
    from shohypernet.search._optuna_study import Study

    def bind(space: Space, like: Hyperparams) -> Asker:
        cube = unit_cube(space, like)

        def init(key: Key) -> State:
            entropy = np.asarray(jax.random.key_data(key)).tolist()
            return State(Study(study_name, storage, sampler, entropy, cube, heartbeat))

        def ask(key: Key, state: State) -> tuple[State, Proposal | None]:
            del key  # a trial's random numbers come from its number
            asked = _ask(state.study, trials, population, heartbeat)
            if not asked:
                return state, None
            numbers, values = map(np.array, zip(*asked, strict=True))
            state.study.start_beating()
            return state, Proposal(numbers, cube.encode(values), steps)

        def enqueue(state: State, hyperparams: Hyperparams) -> State:
            state.study.enqueue(cube.values(hyperparams))
            return state

        def recall(state: State, trials: np.ndarray) -> Hyperparams:
            return cube.encode(state.study.values(trials))

        if storage is None:
            return Asker(init, ask, _tell, enqueue)
        return Asker(init, ask, _tell, enqueue, recall, _identify)

    return Search(bind, steps, {"method": "optuna_search", "population": population})


def _ask(study: Any, most: int | None, wanted: int, heartbeat: int) -> list[tuple[int, np.ndarray]]:
    """Numbers and values of new trials, none if the study has all that it is to have."""
    while True:
        places, waiting = study.places(most, wanted)
        asked = [study.ask() for _ in range(places)]
        surplus = study.surplus([number for number, _ in asked], most)
        for number in surplus:
            study.tell(number, np.nan)
        asked = [pair for pair in asked if pair[0] not in surplus]
        if asked or not waiting:
            return asked
        time.sleep(min(heartbeat, 1))  # another process may die and leave its trial


def _tell(state: State, proposal: Proposal, losses: np.ndarray) -> State:
    for number, loss in zip(proposal.trials.tolist(), losses.tolist(), strict=True):
        state.study.tell(number, loss)
    state.study.stop_beating()
    return state


def _identify(state: State, identity: Mapping[str, str]) -> None:
    state.study.require_same(identity)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "searches by tpe() and optuna_search() need Optuna: pip install 'shohypernet[search]'"
        ) from error
    return optuna
