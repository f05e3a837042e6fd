"""Static choices: hyperparameters that programs are made with, since no traced number serves there.

Widths, depths, kinds of optimizers and the batch size are such. Each combination of them is a
program of its own to compile, so their number is limited; those that differ in inactive choices are
the same. The problem's functions and the optimizer get the choices themselves, beside the other
hyperparameters, which are traced.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from shohypernet import _conditions as conditions
from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import validation
from shohypernet.batches import Data
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.search._combinations import MOST_COUNTED, static_combinations
from shohypernet.search._populations import Job, Outcome, Populations
from shohypernet.search._unit_cube import bin_count
from shohypernet.types import Hyperparams, Optimizer, Space

MOST_PROGRAMS = 32

Choices = Mapping[str, Any]  # by name
Codes = tuple[int, ...]  # of the static choices, in the order of their names


class Inner(NamedTuple):
    """Inner runs with one combination of static choices.

    Attributes:
      problem: the problem, whose λ are the hyperparameters besides.
      optimizer: optimizer of the weights, or a function from those, in natural units, to it.
      batch_size: examples per step; None takes all of them.
    """

    problem: Problem
    optimizer: Optimizer
    batch_size: int | None

    def relaxed(self) -> tuple[Problem, Optimizer]:
        """Problem and optimizer as functions of unconstrained codes."""
        problem = problems.relaxed(self.problem)
        if isinstance(self.optimizer, optax.GradientTransformation):
            return problem, self.optimizer

        def optimizer(codes: Hyperparams) -> optax.GradientTransformation:
            made = inner_loop.optimizer_at(self.optimizer, hp.decode(self.problem.space, codes))
            return validation.optimizer("search.run", optimizer=made)[0]

        return problem, optimizer


class Variants:
    """Inner runs of a search, for each combination of static choices.

    Args:
      problem: the bilevel problem, or a function from the choices to it.
      optimizer: optimizer of the weights, or a function from λ, in natural units, to it.
      batch_size: examples per step, None for all of them, or a function from the choices to it.
      specs: specs of the static choices by name, none if there are none.

    Raises:
      TypeError: for something that is no problem or no optimizer.
      ValueError: for specs that have no choices, or too many, for conditions that can't be met, and
        for a bad batch size.
    """

    def __init__(
        self,
        problem: Problem | Callable[[Choices], Problem],
        optimizer: Optimizer,
        batch_size: int | Callable[[Choices], int] | None,
        specs: Mapping[str, hp.Spec],
    ) -> None:
        """Make the first of them."""
        _require_choices(specs)
        self._problem, self._batch_size = problem, batch_size
        (self._optimizer,) = validation.optimizer(
            "search.run", optimizer=optimizer, function_of_hyperparams=True
        )
        self.specs = dict(sorted(specs.items()))
        self._inner: dict[Codes, Inner] = {}
        # Any of them knows the space besides, which static choices may be conditional on.
        lowest = tuple(int(spec.bounds[0]) for spec in self.specs.values())
        space = self.inner(lowest).problem.space
        self.space = {**space, **self.specs} if specs else space
        self._active = _programs(self.space, self.specs)
        self.first = self.inner(next(iter(self._active)))

    def all(self) -> Iterator[tuple[Inner, set[str]]]:
        """Those of every combination, made when their turn comes, and what may be active there."""
        return ((self.inner(codes), names) for codes, names in self._active.items())

    def inner(self, codes: Codes) -> Inner:
        """Those of one combination."""
        if codes not in self._inner:
            self._inner[codes] = self._made(codes)
        return self._inner[codes]

    def split(self, hyperparams: Hyperparams) -> tuple[list[Codes], Hyperparams]:
        """The static choices of each of P λ, and the rest of these, leaves (P, ...)."""
        if not self.specs:
            return [()] * len(jax.tree.leaves(hyperparams)[0]), hyperparams
        columns = [np.rint(np.asarray(hyperparams[name])).astype(int) for name in self.specs]
        codes = list(zip(*(column.tolist() for column in columns), strict=True))
        return codes, self.rest(hyperparams)

    def rest(self, hyperparams: Hyperparams) -> Hyperparams:
        """Hyperparameters without the static choices."""
        if not self.specs:
            return hyperparams
        return {name: below for name, below in hyperparams.items() if name not in self.specs}

    def _made(self, codes: Codes) -> Inner:
        choices = {
            name: spec.bare.choices[code] if spec.bare.choices else code
            for (name, spec), code in zip(self.specs.items(), codes, strict=True)
        }
        problem: Any = self._problem
        batch_size: Any = self._batch_size
        if choices:
            problem = problem(choices) if callable(problem) else problem
            batch_size = batch_size(choices) if callable(batch_size) else batch_size
        problem = validation.problem(problem, "search.run()")
        if batch_size is not None:
            validation.whole("search.run", batch_size=batch_size)
        if not choices:
            return Inner(problem, self._optimizer, batch_size)
        optimizer = _optimizer_beside(self._optimizer, choices)
        return Inner(_beside(problem, choices), optimizer, batch_size)


class VariantPopulations:
    """Populations of each combination of static choices; see `Populations`.

    Args:
      variants: the inner runs.
      data: three splits, on the device.
      memory: bytes that a population may take besides the data.
    """

    def __init__(self, variants: Variants, data: Data, memory: int) -> None:
        """Compile nothing yet."""
        self._variants, self._data, self._memory = variants, data, memory
        self._populations: dict[Codes, Populations] = {}

    @property
    def compile_seconds(self) -> float:
        """Time spent in compiling."""
        return sum(each.compile_seconds for each in self._populations.values())

    def run(self, jobs: Sequence[Job], steps: int) -> list[Outcome]:
        """Train all jobs, one for each seed, for as many steps.

        Raises:
          ValueError: if not even one inner run of each seed fits in memory.
        """
        if not self._variants.specs:
            return self._of(()).run(jobs, steps)
        return [self._run_one(job, steps) for job in jobs]

    def like(self, hyperparams: Hyperparams) -> TrainState:
        """Shapes and dtypes of the state of an inner run at one λ."""
        single = jax.tree.map(lambda leaf: np.asarray(leaf)[None], hyperparams)
        (codes,), rest = self._variants.split(single)
        return self._of(codes).like(jax.tree.map(lambda leaf: leaf[0], rest))

    def widths(self) -> list[Any]:
        """Codes and `Populations.widths` of each, as JSON can hold them."""
        return [[codes, each.widths()] for codes, each in self._populations.items()]

    def expect(self, widths: Sequence[Any]) -> None:
        """Compile the programs of a run that is resumed; see `Populations.expect`."""
        for codes, each in widths:
            self._of(tuple(codes)).expect(each)

    def _of(self, codes: Codes) -> Populations:
        if codes not in self._populations:
            inner = self._variants.inner(codes)
            self._populations[codes] = Populations(
                *inner.relaxed(), self._data, inner.batch_size, self._memory
            )
        return self._populations[codes]

    def _run_one(self, job: Job, steps: int) -> Outcome:
        """The job's trials in their order, each combination by a program of its own."""
        codes, rest = self._variants.split(job.hyperparams)
        states: list[Any] = [None] * len(codes)
        valid, test = np.zeros((2, len(codes)), np.float32)
        # All as wide as the widest, for another width is another program to compile.
        widest = max(map(codes.count, codes))
        for each in dict.fromkeys(codes):
            rows = [row for row, at in enumerate(codes) if at == each]
            part = job._replace(
                states=[job.states[row] for row in rows],
                hyperparams=jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], rest),
            )
            (outcome,) = self._of(each).run([part], steps, least=widest)
            valid[rows], test[rows] = outcome.valid_loss, outcome.test_loss
            for row, state in zip(rows, outcome.states, strict=True):
                states[row] = state
        return Outcome(states, valid, test)


def _beside(problem: Problem, choices: Choices) -> Problem:
    """The problem as its functions read it with the choices beside other hyperparameters."""
    if problem.space is hp.UNCONSTRAINED:
        problem = problem._replace(space={})

    def train_loss(params: Any, hyperparams: Hyperparams, *rest: Any) -> Any:
        return problem.train_loss(params, {**hyperparams, **choices}, *rest)

    def valid_loss(params: Any, hyperparams: Hyperparams, *rest: Any) -> jax.Array:
        return problem.valid_loss(params, {**hyperparams, **choices}, *rest)

    return problem._replace(train_loss=train_loss, valid_loss=valid_loss)


def _optimizer_beside(optimizer: Optimizer, choices: Choices) -> Optimizer:
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    return lambda hyperparams: optimizer({**hyperparams, **choices})


def _require_choices(specs: Mapping[str, hp.Spec]) -> None:
    """Refuse static hyperparameters that aren't choices, or are too many without any conditions."""
    for name, spec in specs.items():
        validation.require(
            isinstance(spec, hp.Spec) and not spec.bare.differentiable,
            f"search.run() needs static={{{name!r}: ...}} to be categorical() or integer(), one "
            f"program for each choice, got {spec!r}; put what is continuous into the problem's "
            "space.",
        )
    always = [spec for spec in specs.values() if spec.bare is spec]
    _require_few(specs, math.prod(map(bin_count, always)))


def _require_few(static: Iterable[str], total: int | None) -> None:
    validation.require(
        total is not None and total <= MOST_PROGRAMS,
        f"the static choices {sorted(static)} combine to {total or f'over {MOST_COUNTED}'} "
        f"programs, each of which is compiled; take {MOST_PROGRAMS} at most, such as "
        "categorical(16, 64, 256) for a width.",
    )


def _programs(space: Space, static: Mapping[str, hp.Spec]) -> dict[Codes, set[str]]:
    """Combinations of static choices, in order, and names of the hyperparameters active there.

    Raises:
      ValueError: for too many combinations, and for conditions that never hold together.
    """
    found = static_combinations(space, list(static))
    _require_few(static, len(found) if found else None)
    assert found
    never = set(conditions.resolve(space).names) - set().union(*found.values())
    validation.require(
        not never,
        f"hyperparameters {sorted(never)} are active nowhere, for their conditions never hold "
        "together; leave them out of the space, or change their conditions.",
    )
    return found
