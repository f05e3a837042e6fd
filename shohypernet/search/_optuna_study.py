"""An Optuna study in a storage, with the sampler of a search through Optuna.

Imported by searches through Optuna alone, for it is an extra.
"""

import contextlib
import os
import pathlib
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from shohypernet._specs import Categorical, Spec
from shohypernet.search._heartbeats import WORKER, Heartbeats
from shohypernet.search._identity import differences
from shohypernet.search._unit_cube import UnitCube

SQLITE = b"SQLite format 3"  # first bytes of a database
SQLITE_PATIENCE = 60.0  # seconds to wait for another process to let go of the file
IDENTITY, CHOICES, EXHAUSTED = "search", "choices", "exhausted"  # attributes of the study
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
UNLIKELY = 1e-3  # of an unbounded prior, what is left out at either end


class Study:
    """An Optuna study that this process may share with others.

    Args:
      name: name of the study in its storage.
      storage: see `optuna_search`; None for this process' memory.
      sampler: a function from a seed to an Optuna sampler.
      entropy: entropy of this search's random numbers.
      cube: unit cube of the space.
      heartbeat: seconds between heartbeats. After two without, a trial counts as that of a dead
        process, and another process picks it up.
    """

    def __init__(
        self,
        name: str,
        storage: Any,
        sampler: Callable[[int], BaseSampler],
        entropy: list[int],
        cube: UnitCube,
        heartbeat: int,
    ) -> None:
        """Create the study, or open the one that is there."""
        self.optuna = optuna.create_study(
            study_name=name,
            storage=opened(storage),
            sampler=_ByNumber(sampler, entropy),
            load_if_exists=True,
        )
        # By this a sampler says that it has tried all points; Optuna allows it in `optimize` alone.
        self.optuna.stop = lambda: self.optuna.set_user_attr(EXHAUSTED, True)
        labels = {
            name: spec.labels
            for name, spec in zip(cube.names, cube.specs, strict=True)
            if isinstance(spec, Categorical)
        }
        if labels and CHOICES not in self.optuna.user_attrs:  # for people who look at the study
            self.optuna.set_user_attr(CHOICES, labels)
        self._cube = cube
        self._distributions = list(map(_distribution, cube.specs))
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._heartbeats: Heartbeats | None = None
        if storage is not None:
            self._heartbeats = Heartbeats(self.optuna, self._worker, heartbeat)
        self._trials: dict[int, optuna.Trial] = {}  # that were asked for and not told yet

    def require_same(self, identity: Mapping[str, str]) -> None:
        """Record the identity of the search, or compare it with the one that is there.

        Raises:
          ValueError: naming what differs.
        """
        there = self.optuna.user_attrs.get(IDENTITY)
        if there is None:
            self.optuna.set_user_attr(IDENTITY, dict(identity))
        elif changed := differences(there, identity):
            raise ValueError(
                f"study {self.optuna.study_name!r} in this storage holds the trials of another "
                "search, which would mislead this one:\n  "
                + "\n  ".join(changed)
                + "\nRestore them, or choose another study_name or storage."
            )

    def places(self, most: int | None, wanted: int) -> tuple[int, bool]:
        """Number of trials that may begin now, up to `wanted`, and whether more may come later.

        Args:
          most: total of trials to complete, by all processes; None for no limit.
          wanted: the most to begin now.
        """
        if self._heartbeats:
            self._heartbeats.repeat_stale()
        if self.optuna.user_attrs.get(EXHAUSTED):
            return 0, False
        if most is None:
            return wanted, True
        states = TrialState.COMPLETE, TrialState.RUNNING
        trials = self.optuna.get_trials(deepcopy=False, states=states)
        others = [
            trial
            for trial in trials
            if trial.state == TrialState.RUNNING and trial.user_attrs.get(WORKER) != self._worker
        ]
        return max(0, min(wanted, most - len(trials))), bool(others)

    def ask(self) -> tuple[int, np.ndarray]:
        """Number of a new trial, or of one that a dead process left, and its values (D,).

        The sampler suggests what is active alone; other values are NaN.
        """
        cube, trial = self._cube, self.optuna.ask()
        trial.set_user_attr(WORKER, self._worker)
        self._trials[trial.number] = trial
        values = np.full(cube.size, np.nan)
        for i in cube.order:
            if not cube.conditional or cube.active(values[None])[0, i]:
                values[i] = _suggested(trial, cube.names[i], self._distributions[i])
        return trial.number, values

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """Values (P, D) of trials by their numbers, NaN where inactive."""
        trials = self.optuna.get_trials(deepcopy=False)
        names = self._cube.names
        return np.array([[trials[i].params.get(name, np.nan) for name in names] for i in numbers])

    def enqueue(self, values: np.ndarray) -> None:
        """Ask for some values (K, D) before any others, unless the study has them."""
        for row in values.tolist():
            params = {}
            for name, within, value in zip(self._cube.names, self._distributions, row, strict=True):
                # Float32 may round a number across a bound.
                if isinstance(within, FloatDistribution) and not np.isnan(value):
                    params[name] = min(max(value, within.low), within.high)
                elif not np.isnan(value):
                    params[name] = int(value)
            self.optuna.enqueue_trial(params, skip_if_exists=True)

    def surplus(self, numbers: Iterable[int], most: int | None) -> list[int]:
        """Those trials that came second, where two processes took one last place."""
        if most is None:
            return []
        states = TrialState.COMPLETE, TrialState.RUNNING
        counted = self.optuna.get_trials(deepcopy=False, states=states)
        return sorted({trial.number for trial in counted[most:]} & set(numbers))

    def tell(self, number: int, loss: float) -> None:
        """End a trial: complete with its loss, infinite if it diverged; failed with NaN."""
        # Samplers ignore a failed trial, and so would go back to where trials diverge. A trial is
        # finished already if this process was taken for dead.
        failed = bool(np.isnan(loss))
        value, state = (None, TrialState.FAIL) if failed else (loss, None)
        with contextlib.suppress(UpdateFinishedTrialError):
            self.optuna.tell(number, value, state, skip_if_finished=True)
        self._trials.pop(number, None)

    def start_beating(self) -> None:
        """Record heartbeats of the trials that aren't told yet, until `stop_beating`."""
        if self._heartbeats:
            self._heartbeats.start(self._trials.values())

    def stop_beating(self) -> None:
        """Record no more heartbeats."""
        if self._heartbeats:
            self._heartbeats.stop()

    def __reduce__(self) -> Any:
        return PastStudy, (self.optuna.study_name, self.optuna.get_trials())


class PastStudy(NamedTuple):
    """A study as it is pickled: without storage, whose URL may hold a password, and sampler.

    Attributes:
      name: name of the study.
      trials: Optuna's frozen trials.
    """

    name: str
    trials: list[FrozenTrial]


class _ByNumber(BaseSampler):
    """A sampler that is seeded for each trial by its number.

    So processes that share a study never draw the same, and a trial is the same whoever runs it.
    """

    def __init__(self, make: Callable[[int], BaseSampler], entropy: list[int]) -> None:
        self._make, self._entropy = make, entropy
        self._last: tuple[int, BaseSampler] | None = None

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._last is None or self._last[0] != trial.number:
            sequence = np.random.SeedSequence([*self._entropy, trial.number])
            self._last = trial.number, self._make(int(sequence.generate_state(1)[0]))
        return self._last[1]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)


def _suggested(trial: optuna.Trial, name: str, within: Distribution) -> Any:
    if isinstance(within, CategoricalDistribution):
        return trial.suggest_categorical(name, within.choices)
    if isinstance(within, IntDistribution):
        return trial.suggest_int(name, within.low, within.high)
    return trial.suggest_float(name, within.low, within.high, log=within.log)


def _distribution(spec: Spec) -> Distribution:
    if isinstance(spec, Categorical):
        # By index, for Optuna takes choices that are spelt alike for one, and no functions.
        return CategoricalDistribution(range(len(spec.choices)))
    low, high = spec.bounds
    if not spec.differentiable:
        return IntDistribution(int(low), int(high))
    if np.isinf(low):
        ends = jnp.array([UNLIKELY, 1 - UNLIKELY])
        low, high = spec.decode(spec.quantile(ends)).tolist()
    return FloatDistribution(low, high, log=spec.kind == "log")


def opened(storage: Any) -> BaseStorage | None:
    """Optuna's storage of a URL or a path, or the one that is given.

    Raises:
      ValueError: for a text that is no URL, or a path to a database.
    """
    if storage is None or isinstance(storage, BaseStorage):
        return storage
    if isinstance(storage, os.PathLike):
        path = pathlib.Path(storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(0)
            if file.read(len(SQLITE)) == SQLITE:
                raise ValueError(f"{path} is an SQLite database: storage='sqlite:///{path}'.")
        return JournalStorage(JournalFileBackend(str(path)))
    if "://" not in storage:
        raise ValueError(
            f"storage={storage!r} is no URL; write storage='sqlite:///{storage}' for a database, "
            f"or storage=pathlib.Path({storage!r}) for a journal file."
        )
    patient = {"connect_args": {"timeout": SQLITE_PATIENCE}}
    return RDBStorage(storage, engine_kwargs=patient if storage.startswith("sqlite") else None)
