"""The driver of gradient methods: runs any HyperOptimizer, compiled, for many seeds at once.

Steps run in compiled chunks: a `scan` over steps inside a `vmap` over seeds, or a loop over groups
of them, with the data on the device and the state's buffers donated. Python is entered once per
chunk, to record, show and save.

All random numbers of step t of a seed come from fold_in(key of the seed, t), so that a run which
was stopped and resumed goes through the same numbers as one that never was.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from shohypernet import hyperparameters as hp
from shohypernet import problem as problems
from shohypernet import saving
from shohypernet._internal import compiled, sharding
from shohypernet.batches import Data
from shohypernet.fitting import _checks as checks
from shohypernet.fitting import _health as health
from shohypernet.fitting import _multihost as multihost
from shohypernet.fitting import _plan as plans
from shohypernet.fitting._execution import Run, execute
from shohypernet.fitting._health import NonFiniteLoss
from shohypernet.fitting._history import History
from shohypernet.fitting._identity import identity
from shohypernet.fitting._programs import programs
from shohypernet.fitting._progress import Callback
from shohypernet.fitting._result import Result
from shohypernet.fitting._run_directory import holds_run, read_identity
from shohypernet.fitting._signals import Interrupted
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem
from shohypernet.sources import reading
from shohypernet.types import Hyperparams

__all__ = ["History", "Interrupted", "NonFiniteLoss", "Result", "fit"]


def fit(
    problem: Problem,
    method: HyperOptimizer,
    data: Data,
    hyperparams: Hyperparams | None = None,
    *,
    steps: int,
    seeds: int | Sequence[int] = 0,
    inner_steps: int = 1,
    train_batch_size: int | None = None,
    valid_batch_size: int | None = None,
    eval_every: int | None = None,
    workdir: str | os.PathLike | None = None,
    resume: bool | Literal["auto"] = False,
    checkpoint_every: int = 10,
    config: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
    seeds_at_once: int | None = None,
    mesh: Mesh | None = None,
) -> Result:
    """Tune hyperparameters by a gradient method, for every seed in one compiled run.

    Args:
      problem: the bilevel problem; its `valid_loss` also measures the history's three losses.
      method: built for this problem.
      data: three splits of examples, each a tree of arrays with a shared leading axis, or a source
        (`shn.sources`) of what memory can't hold; the test split may be None.
      hyperparams: start of λ̂ in natural units: a tree of arrays or numbers that all seeds share,
        or a function from a seed's key to such a tree; by default `problem.start`.
      steps: number of rounds, each one call of `method.step`. A resumed run may ask for more.
      seeds: a whole number, for results without a seed axis; or a sequence of them, all in one
        compiled call, for results that lead with that axis.
      inner_steps: number of training batches per round.
      train_batch_size: examples per training batch, drawn with replacement; None takes all of
        them, and memory for as many copies of the training data as there are inner steps.
      valid_batch_size: validation examples per round, likewise.
      eval_every: number of rounds between evaluations of all data; the last may be shorter. By
        default such that a run makes about a hundred, or that of a resumed run.
      workdir: folder for log, checkpoints and, in the end, the result, which `shn.load(workdir)`
        reads; None writes nothing.
      resume: whether to continue the run in workdir, on the same machine bit for bit; "auto"
        continues it if there is one, and else starts it. The evaluation at the end of a run stays
        in the history of one that continues it only if it stands at a multiple of eval_every.
      checkpoint_every: number of evaluations between checkpoints.
      config: what else identifies this run, such as the optimizers' step sizes, as JSON can hold
        it; only a run with an equal one is resumed.
      callbacks: functions of a `callbacks.Progress`, called after each evaluation; one that returns
        True ends the run there, which a larger workdir's run can be resumed from: such as
        `[shn.callbacks.patience(10), shn.callbacks.max_seconds(60)]`.
      progress: whether to show a progress bar; by default when standard error is a terminal.
      seeds_at_once: number of seeds that a device steps together, vmapped, while the others wait
        for their turn. By default `fit` chooses, by device and sizes alone: one at a time on a CPU
        where a seed's state has 1 MiB or more and its minibatches are most of what it trains and
        validates on, for these share nothing; else all at once. Results are the same up to
        rounding, in which a vmapped product may differ; the same call chooses alike.
      mesh: devices to shard the run over, by the names of its axes: `"seeds"`, `"samples"` (the
        sampled λ), `"examples"` or `"weights"` (arrays of the state of 1 MiB or more per seed,
        such as φ). Every device holds all data, or reads what it needs of a source, so that it
        finds the examples of its share of a minibatch without asking another. Results are those of
        one device up to rounding, and a run may be resumed on other devices. If the mesh spans the
        processes of `jax.distributed`,
        each must make the same call; the first keeps `workdir`, and a signal to any stops all.

    More hyperparameters than validation examples are named in the log, once.

    Returns:
      The final hyperparameters, weights and state, and the history. Where a mesh spans several
      processes each of them has the whole of all but the state, which remains sharded.

    Raises:
      TypeError: for something that is no problem or no method, or both swapped.
      ValueError: for a bad size, start, loss or mesh; for a method that was built for another
        problem; for a hyperparameter that enters nothing, or that the method can't move; or for a
        workdir with another run, or one of other versions of this library, JAX or optax.
      FileExistsError: if workdir holds a run and resume is false.
      FileNotFoundError: if resume is true and workdir holds no run.
      BlockingIOError: if another process runs in workdir.
      OSError: if workdir can't be written; the checkpoints that it has are kept.
      ReadError: if a source can't be read (`shn.sources.ReadError`), from the error that says why.
      NonFiniteLoss: if a loss or λ̂ of every seed became NaN or infinite, or of any at the start.
      Interrupted: on Ctrl-C or SIGTERM with a workdir, after saving.

    Warns:
      RuntimeWarning: if λ̂ stood still over the last half of the run, a checkpoint is damaged, or a
        loss or λ̂ of some seeds became NaN or infinite: these are named in the result's `lost`; or
        if the method left out estimates of its own, such as of the curvature, that weren't finite.
    """
    checks.require_match(problem, method)
    compiled.keep()
    mesh = plans.named_mesh(mesh)
    group = multihost.process_group(mesh)
    resume, former = _resumption(group, workdir, resume)
    checks.require_callbacks(callbacks)
    plan = plans.plan(
        seeds=seeds,
        steps=steps,
        inner_steps=inner_steps,
        train_batch_size=train_batch_size,
        valid_batch_size=valid_batch_size,
        eval_every=former.get("eval_every") if eval_every is None else eval_every,
        checkpoint_every=checkpoint_every,
        seeds_at_once=seeds_at_once,
    )
    checks.require_batches(method, plan)
    data = plans.splits(data)
    plan = plans.with_streams(plan, data)
    problems.require_readable(problem, data)
    sizes = {name: getattr(plan, name) for name in ("train_batch_size", "valid_batch_size")}
    plans.require_sizes("fit", data, mesh, **sizes)
    plans.require_divisible(mesh, plan, data)
    hyperparams = problems.start_of(problem, hyperparams, "fit")
    start = checks.encoded(problem.space, hyperparams)

    with contextlib.ExitStack() as stack:
        stack.enter_context(sharding.over(mesh))
        data = sharding.everywhere(data)
        made = programs(problem, method, start, data, plan)
        directory = None
        if workdir is not None:
            described = identity(plan, data, start, made.like, config)
            directory = group.run_directory(workdir, described, resume=resume)
            stack.callback(directory.close)
        health.say_if_many(made.like.hyperparams, data.valid, problem.folds)
        run = Run(problem, method, data, plan, made, group, directory, callbacks)
        with reading(**data._asdict()):
            many = _in_natural_units(problem, execute(run, progress))
        result = many.seed(0) if isinstance(seeds, int | np.integer) else many
        if directory and group.is_first:
            saving.keep(directory.path, result, directory.latest_step)
        waiting = bool(np.all(sharding.whole(method.waiting(many.state))))
        rejected = np.asarray(sharding.whole(method.rejected(many.state)))
    health.warn_if_still(many.history, plan.seeds, waiting)
    health.warn_of_rejected(rejected, plan.seeds)
    health.warn_of_lost(many.lost)
    return result


def _resumption(
    group: multihost.ProcessGroup, workdir: Any, resume: bool | Literal["auto"]
) -> tuple[bool, Mapping[str, Any]]:
    """Whether a run is resumed, and its identity, empty if not."""
    if workdir is None:
        if resume is True:
            raise ValueError("fit() can resume only a run that has a workdir.")
        return False, {}
    resumed = bool(group.by_first(holds_run, workdir) if resume == "auto" else resume)
    return resumed, group.by_first(read_identity, workdir) if resumed else {}


def _in_natural_units(problem: Problem, result: Result) -> Result:
    """The result with hyperparameters in natural units beside the unconstrained ones."""
    unconstrained = result.history.unconstrained
    natural = jax.tree.map(np.asarray, hp.decode(problem.space, unconstrained))
    # From this process's copy: under a mesh of several, its own device is not all that compute.
    best = hp.decode(problem.space, jax.tree.map(np.asarray, result.best.hyperparams))
    best = jax.tree.map(np.asarray, best)
    return result._replace(
        hyperparams=jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), natural),
        best=result.best._replace(hyperparams=jax.tree.map(jnp.asarray, best)),
        history=result.history._replace(hyperparams=natural),
    )
