"""The one driver of black-box searches: trains the trials that they ask for, and keeps account.

Seeds go side by side: each is asked for a proposal, the proposals are trained in the same
populations, and each is told its losses.
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from shohypernet import hyperparameters as hp
from shohypernet import problem as problems
from shohypernet._internal import random, validation
from shohypernet.batches import Data
from shohypernet.fitting import NonFiniteLoss
from shohypernet.fitting import _health as health
from shohypernet.fitting import _plan as plans
from shohypernet.problem import Problem
from shohypernet.search import _checks as checks
from shohypernet.search._base import Search
from shohypernet.search._identity import identity
from shohypernet.search._populations import Populations
from shohypernet.search._result import Measured, SearchResult
from shohypernet.search._seed import SeedSearch
from shohypernet.types import Hyperparams, Space

DEFAULT_MEMORY = 2**30


def run(
    problem: Problem,
    method: Search,
    data: Data,
    hyperparams: Hyperparams | None = None,
    *,
    optimizer: optax.GradientTransformation,
    budget: int,
    seeds: int | Sequence[int] = 0,
    batch_size: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: bool | None = None,
) -> SearchResult:
    """Tune hyperparameters by a black-box search, for every seed side by side.

    Args:
      problem: the bilevel problem; its space may hold integers and categories too.
      method: the search, such as `random_search(steps=100)`.
      data: three splits of examples, each a tree of arrays with a shared leading axis.
      hyperparams: λ in natural units, as `fit` takes it, for its form alone: a tree of arrays or
        numbers, or a function from a key to one; by default `problem.start`. A search starts
        from the prior.
      optimizer: α, the optimizer of the weights.
      budget: gradient evaluations that each seed may spend: updates of w, over all its trials.
      seeds: a seed, for results without seed axis; or a sequence of seeds, one search for each.
      batch_size: examples per step, drawn with replacement; None takes all of them.
      memory: bytes that a population of inner runs may take besides the data, by the compiler's
        account.
      progress: whether to show a progress bar; by default when standard error is a terminal.

    Returns:
      The best trial's hyperparameters and weights, and all that was measured.

    Raises:
      ValueError: for a budget below one trial, a bad size, bad data, hyperparameters that don't fit
        the space or that neither loss reads, losses that aren't scalars, memory for no inner run,
        a search that has nothing to do, or a stored study of another search.
      TypeError: for anything else in place of a problem, a search or an optimizer.
      NonFiniteLoss: if every trial of a seed diverged.

    Reference:
      Algorithm 1 of arXiv:1802.09419.
    """
    problem = validation.problem(problem, "search.run()")
    method = checks.search(method)
    (optimizer,) = validation.optimizer("search.run", optimizer=optimizer)
    validation.whole("search.run", budget=budget, memory=memory)
    if batch_size is not None:
        validation.whole("search.run", batch_size=batch_size)
    if budget < method.steps:
        raise ValueError(
            f"a budget of {budget} gradient evaluations is below one trial of {method.steps} "
            "steps; allow more, or give the method fewer steps."
        )
    several = [seeds] if isinstance(seeds, int | np.integer) else seeds
    each_seed = plans.distinct_seeds(several, "search.run")
    data = plans.splits(data, "search.run")
    hyperparams = problems.start_of(problem, hyperparams, "search.run")
    like = checks.form(random.key(0), problem.space, hyperparams)
    asker = method.bind(problem.space, like)
    checks.require_consistent(problem, like, data, batch_size)
    populations = Populations(problems.relaxed(problem), optimizer, data, batch_size, memory)
    searches = []
    for seed in each_seed:
        key, key_runs = jax.random.split(random.key(seed))
        fresh = populations.start(key_runs)
        searches.append(SeedSearch(asker, key, key_runs, fresh, budget))
    if asker.identify:
        described = identity(problem, like, data, optimizer, method.steps, batch_size)
        for each in searches:
            asker.identify(each.state, described)
    _search(searches, populations, budget, progress)
    _require_found(searches, each_seed, data)
    result = _result(problem.space, searches, each_seed, populations.compile_seconds)
    return result if several is seeds else result.seed(0)


def _search(
    searches: list[SeedSearch], populations: Populations, budget: int, progress: bool | None
) -> None:
    """Ask, train and tell until every search has ended."""
    began = time.perf_counter()
    quiet = None if progress is None else not progress
    with tqdm(total=budget * len(searches), unit=" gradients", disable=quiet) as bar:
        while asked := [each for each in searches if each.ask()]:
            try:
                for steps in sorted({each.proposal.steps for each in asked}):
                    group = [each for each in asked if each.proposal.steps == steps]
                    outcomes = populations.run([each.job() for each in group], steps)
                    seconds = time.perf_counter() - began - populations.compile_seconds
                    for each, outcome in zip(group, outcomes, strict=True):
                        bar.update(steps * len(outcome.valid_loss))
                        each.tell(outcome, seconds)
            finally:
                for each in asked:
                    each.give_up()
            found = [each.best.valid_loss for each in searches if each.best]
            bar.set_postfix(valid=f"{np.mean(found):.4g}" if found else "none", refresh=False)


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
    if corrupted := health.not_finite(data):
        cause = (
            f"{', '.join(corrupted)} holds NaN or infinite numbers; fix or leave out those rows."
        )
    else:
        cause = (
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
