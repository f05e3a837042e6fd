"""The one driver of black-box searches: trains the trials that they ask for, and keeps account.

Seeds go side by side: each is asked for a proposal, the proposals are trained in the same
populations, and each is told its losses.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from shohypernet import hyperparameters as hp
from shohypernet import saving
from shohypernet._internal import compiled, random, validation
from shohypernet.batches import Data
from shohypernet.fitting import NonFiniteLoss
from shohypernet.fitting import _health as health
from shohypernet.fitting import _plan as plans
from shohypernet.fitting._identity import describe
from shohypernet.fitting._run_directory import holds_run
from shohypernet.fitting._signals import Interrupted, Interruption
from shohypernet.problem import Problem
from shohypernet.search import _checks as checks
from shohypernet.search._base import Search, projected
from shohypernet.search._first import queued_first
from shohypernet.search._identity import identity
from shohypernet.search._result import Measured, SearchResult
from shohypernet.search._resuming import SearchDirectory
from shohypernet.search._seed import SeedSearch
from shohypernet.search._static import VariantPopulations, Variants
from shohypernet.sources import reading
from shohypernet.types import Hyperparams, Optimizer, Space

DEFAULT_MEMORY = 2**30


def run(
    problem: Problem | Callable[[Mapping[str, Any]], Problem],
    method: Search,
    data: Data,
    hyperparams: Hyperparams | None = None,
    *,
    optimizer: Optimizer,
    budget: int,
    seeds: int | Sequence[int] = 0,
    batch_size: int | Callable[[Mapping[str, Any]], int] | None = None,
    static: Mapping[str, hp.Spec] | None = None,
    first: Sequence[Hyperparams] = (),
    workdir: str | os.PathLike | None = None,
    resume: bool | Literal["auto"] = False,
    checkpoint_every: int = 10,
    memory: int = DEFAULT_MEMORY,
    progress: bool | None = None,
) -> SearchResult:
    """Tune hyperparameters by a black-box search, for every seed side by side.

    Args:
      problem: the bilevel problem; its space may hold integers and categories too. With `static`
        choices also a function from them, a mapping by name, to it.
      method: the search, such as `random_search(steps=100)`.
      data: three splits of examples, each a tree of arrays with a shared leading axis.
      hyperparams: λ in natural units, as `fit` takes it, for its form alone: a tree of arrays or
        numbers, or a function from a key to one; by default `problem.start`. A search starts
        from the prior.
      optimizer: α, the optimizer of the weights; or a function from λ in natural units to it, such
        as `lambda λ: optax.adam(λ["step_size"])`.
      budget: gradient evaluations that each seed may spend: updates of w, over all its trials. A
        resumed run may ask for more.
      seeds: a seed, for results without seed axis; or a sequence of seeds, one search for each.
      batch_size: examples per step, drawn with replacement; None takes all of them. With `static`
        choices also a function from them.
      static: `categorical` and `integer` hyperparameters, by name, that can't be traced, such as
        a width or the batch size. Losses and `optimizer` get the choices themselves, in λ beside
        those of the problem's space. Each combination is compiled by itself, 32 at most, where
        those that differ in inactive choices are one.
      first: λ in natural units to try before any others, such as one known to be good. Inactive
        values may be left out.
      workdir: folder for log, checkpoints and, in the end, the result, which `shn.load(workdir)`
        reads; None writes nothing.
      resume: whether to continue the search in workdir; "auto" continues it if there is one, and
        else starts it. It has the same result as a search that was never stopped; one whose
        storage other processes share goes on with what they found.
      checkpoint_every: number of proposals between checkpoints.
      memory: bytes that a population of inner runs may take besides the data, by the compiler's
        account.
      progress: whether to show a progress bar; by default when standard error is a terminal.

    Returns:
      The best trial's hyperparameters and weights, and all that was measured.

    Raises:
      ValueError: for a budget below one trial, a bad size, bad data, hyperparameters that don't fit
        the space or that neither losses nor optimizer read where they are active, conditions on
        what the space doesn't hold, losses that aren't scalars, memory for
        no inner run, a search that has nothing to do, or a stored study or workdir of another.
      TypeError: for anything else in place of a problem, a search or an optimizer.
      FileExistsError, FileNotFoundError, BlockingIOError, OSError: for a workdir, as `fit`.
      NonFiniteLoss: if every trial of a seed diverged.
      ReadError: if a source can't be read, as `fit`.
      Interrupted: on Ctrl-C, and with a workdir on SIGTERM too, with the `result` so far.

    Reference:
      Algorithm 1 of arXiv:1802.09419.
    """
    method = checks.search(method)
    compiled.keep()
    validation.whole("search.run", budget=budget, memory=memory, checkpoint_every=checkpoint_every)
    if resume is True and workdir is None:
        raise ValueError("search.run() can resume only a search that has a workdir.")
    variants = Variants(problem, optimizer, batch_size, static or {})
    checks.require_affordable(method, budget)
    several = [seeds] if isinstance(seeds, int | np.integer) else seeds
    each_seed = plans.distinct_seeds(several, "search.run")
    checks.require_stackable(variants, each_seed)
    data = plans.splits(data, "search.run")
    like = checks.form(variants, hyperparams)
    asker = projected(method.bind(variants.space, like), variants.space)
    queue = queued_first(variants.space, like, first)
    checks.require_consistent(variants, variants.rest(like), data)
    populations = VariantPopulations(variants, data, memory)
    searches = [SeedSearch(asker, random.key(seed), budget) for seed in each_seed]
    with contextlib.ExitStack() as stack:
        directory, described = None, {}
        if asker.identify or workdir is not None:
            described = identity(variants, like, data, method.steps)
        for each in searches:
            each.identify(described)
        if workdir is not None:
            of_run = {"search": method.settings, "seeds": each_seed, "first": describe(queue)}
            resume = holds_run(workdir) if resume == "auto" else resume
            directory = SearchDirectory(
                workdir, described | of_run, resume, checkpoint_every, searches, populations
            )
            stack.callback(directory.close)
        for each in searches:
            each.enqueue(queue)
        stopped = _search(searches, populations, data, budget, progress, directory)
        if stopped is None:
            _require_found(searches, each_seed, data)
        result = None
        if all(each.best for each in searches):
            result = _result(variants.space, searches, each_seed, populations.compile_seconds)
            result = result if several is seeds else result.seed(0)
        if directory and result is not None and stopped is None:
            saving.keep(directory.path, result, directory.saved)
    if stopped is not None:
        raise _interrupted(searches, budget, directory, stopped, result)
    assert result is not None
    return result


def _search(
    searches: list[SeedSearch],
    populations: VariantPopulations,
    data: Data,
    budget: int,
    progress: bool | None,
    directory: SearchDirectory | None,
) -> int | None:
    """Ask, train and tell until every search has ended, or the number of a signal that came."""
    began = time.perf_counter() - (directory.replay() if directory else 0)
    quiet = None if progress is None else not progress
    bar = tqdm(
        total=budget * len(searches),
        initial=sum(each.spent for each in searches),
        unit=" gradients",
        disable=quiet,
    )
    with bar, Interruption(listening=directory is not None) as interruption:
        try:
            while asked := [each for each in searches if each.ask()]:
                with reading(**data._asdict()):
                    _train(asked, populations, began, bar)
                found = [each.best.valid_loss for each in searches if each.best]
                bar.set_postfix(valid=f"{np.mean(found):.4g}" if found else "none", refresh=False)
                if directory:
                    stopping = interruption.signal_number
                    directory.log(asked, save=stopping is not None)
                    if stopping is not None:
                        return stopping
            if directory:
                directory.save()
        except KeyboardInterrupt:  # at once: without a workdir, or for the second time
            return signal.SIGINT
        finally:
            for each in searches:
                each.give_up()
    return interruption.signal_number


def _train(
    asked: list[SeedSearch], populations: VariantPopulations, began: float, bar: Any
) -> None:
    """Train what was asked for, and tell the losses."""
    for steps in sorted({each.proposal.steps for each in asked}):
        group = [each for each in asked if each.proposal.steps == steps]
        outcomes = populations.run([each.job() for each in group], steps)
        seconds = time.perf_counter() - began - populations.compile_seconds
        for each, outcome in zip(group, outcomes, strict=True):
            bar.update(steps * len(outcome.valid_loss))
            each.tell(outcome, seconds)


def _interrupted(
    searches: list[SeedSearch],
    budget: int,
    directory: SearchDirectory | None,
    signal_number: int,
    result: SearchResult | None,
) -> Interrupted:
    """The error of a search that was stopped, which says what is left of it."""
    spent = sum(each.spent for each in searches)
    message = f"stopped after {spent:,} of {budget * len(searches):,} gradient evaluations"
    if directory:
        message += (
            f", saved up to turn {directory.saved} in {directory.path}; run the same again with "
            "resume=True (--resume) to continue."
        )
    else:
        message += "; with a workdir it could be resumed."
    if result is not None:
        message += " What it found is the `result` of this exception (sys.last_value.result)."
    return Interrupted(message, signal_number, result)


def _require_found(searches: list[SeedSearch], seeds: list[int], data: Data) -> None:
    """Refuse seeds without any trial, or without any finite validation loss."""
    idle = [seed for seed, each in zip(seeds, searches, strict=True) if not each.spent]
    if idle:
        raise ValueError(
            f"the search of seeds {idle} ended before its first trial: all that it has to do was "
            "done, by another process if it shares a study. Give it more to do."
        )
    lost = [seed for seed, each in zip(seeds, searches, strict=True) if each.best is None]
    if not lost:
        return
    cause = health.not_finite(data) or (
        "A step size too large for some λ of the space is the usual cause: try a smaller one, "
        "optax.clip_by_global_norm, or a narrower space."
    )
    raise NonFiniteLoss(
        f"every trial of seeds {lost} ended with a validation loss that is not finite. {cause}"
    )


def _result(
    space: Space, searches: list[SeedSearch], seeds: list[int], compile_seconds: float
) -> SearchResult:
    """The result with a seed axis."""
    best = [each.best for each in searches if each.best]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *best)
    unconstrained, params, model_state = jax.tree.map(jnp.asarray, stacked[:3])
    return SearchResult(
        hyperparams=hp.decode(space, unconstrained),
        unconstrained=unconstrained,
        params=params,
        model_state=model_state,
        valid_loss=stacked.valid_loss,
        test_loss=stacked.test_loss,
        measured=[_measured(space, each) for each in searches],
        states=[each.state for each in searches],
        compile_seconds=compile_seconds,
        seeds=tuple(seeds),
        space=space,
    )


def _measured(space: Space, search: SeedSearch) -> Measured:
    columns, unconstrained = search.measurements()
    # Natural values stay JAX arrays, whose whole numbers `encode` takes for a category's indices.
    natural: Any = hp.decode(space, jax.tree.map(jnp.asarray, unconstrained))
    return Measured(*columns, hyperparams=natural, unconstrained=unconstrained)
