"""The one driver: runs any HyperOptimizer, compiled, for many seeds at once.

Steps run in compiled chunks: a `scan` over steps inside a `vmap` over seeds, or a loop over groups
of them, with the data on the device and the state's buffers donated. Python is entered once a
chunk, to record, show and save.

All randomness of step t of a seed comes from fold_in(key of the seed, t), so a run that is stopped
and resumed goes through the same numbers as one that never was.
"""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from shohypernet._internal import sharding
from shohypernet.batches import Data, SplitLosses, minibatch
from shohypernet.fitting import _history as histories
from shohypernet.fitting import _multihost as multihost
from shohypernet.fitting import _plan as plans
from shohypernet.fitting._history import History
from shohypernet.fitting._plan import Plan
from shohypernet.fitting._run_directory import RunDirectory, read_identity
from shohypernet.fitting._signals import Interrupted, Interruption
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.problem import Problem


class NonFiniteLoss(FloatingPointError):
    """A loss or λ̂ became NaN or infinite; the message says at which step and what to try."""


class Result(NamedTuple):
    """What `fit` returns; the first three lead with the seed axis.

    Attributes:
      hyperparams: the final λ̂, unconstrained.
      params: the method's weights at λ̂.
      state: the method's whole state.
      history: the way there.
      compile_seconds: time spent in compiling, which `history.seconds` leaves out.
    """

    hyperparams: Any
    params: Any
    state: Any
    history: History
    compile_seconds: float


class _Programs(NamedTuple):
    """What is compiled, for all seeds at once: keys, states and losses lead with the seed axis.

    Attributes:
      like: shapes and dtypes of a state.
      start: `start(keys) -> state`.
      evaluate: `evaluate(state, data) -> losses`.
      chunk: `chunk(state, keys, data, first_step) -> (state, infos, losses)`: eval_every steps,
        then an evaluation. The state's buffers are donated.
      weights: `weights(state) -> params`.
    """

    like: Any
    start: Any
    evaluate: Any
    chunk: Any
    weights: Any


def fit(
    problem: Problem,
    method: HyperOptimizer,
    data: Data,
    hyperparams: Any,
    *,
    steps: int,
    seeds: Sequence[int] = (0,),
    inner_steps: int = 1,
    train_batch_size: int | None = None,
    valid_batch_size: int | None = None,
    eval_every: int | None = None,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    checkpoint_every: int = 10,
    config: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    seeds_at_once: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Result:
    """Tunes hyperparameters with a method, for every seed in one compiled run.

    Args:
      problem: what is tuned; its `valid_loss` also measures the history's three losses.
      method: how.
      data: three splits of examples, each a tree of arrays with a shared leading axis.
      hyperparams: where λ̂ starts, unconstrained: a tree of floating-point arrays that all seeds
        share, or a function from a seed's key to such a tree.
      steps: rounds to do, each one call of `method.step`. A resumed run may ask for more.
      seeds: one run for each, all in one compiled call.
      inner_steps: training batches for each round.
      train_batch_size: examples in each, drawn with replacement; None takes all of them, and
        memory for as many copies of the training data as there are inner steps.
      valid_batch_size: validation examples for each round, likewise.
      eval_every: rounds from one evaluation of all data to the next, a divisor of `steps`; by
        default the smallest that makes at most a hundred evaluations, or that of a resumed run.
      workdir: a folder for log and checkpoints; nothing is written when None.
      resume: whether to go on with the run that workdir holds, on the same machine bit for bit.
      checkpoint_every: evaluations from one checkpoint to the next.
      config: more of what makes this run itself, such as the optimizers' step sizes, as JSON can
        hold it; only a run with an equal one is resumed.
      progress: whether to show a progress bar; by default when standard error is a terminal.
      seeds_at_once: how many seeds a device steps together, vmapped, while the others wait for
        their turn; None for all. Seeds that train on all data share its reading, and all at once
        are fastest. Seeds that draw minibatches share nothing, and on a CPU one at a time is; it
        holds each state twice, and all else for one seed. Results are the same up to rounding.
      mesh: devices to spread the run over, by the names of its axes: `"seeds"`, `"samples"` (the
        sampled λ), `"examples"` or `"weights"` (arrays of the state of 1 MiB or more for a seed,
        such as φ); see `sharding`. Every device holds all data, so that it finds the examples of
        its share of a minibatch without asking another. Results are those of one device up to
        rounding, and a run may be resumed on other devices. If the mesh spans the processes of
        `jax.distributed`, each must make the same call; the first keeps `workdir`, and a signal
        to any stops all.

    Returns:
      The final hyperparameters, weights and state, and the history. Where a mesh spans several
      processes each of them has the whole of all but the state, which remains spread.

    Raises:
      ValueError: for a bad size, start, loss or mesh, for a hyperparameter that nothing reads, or
        for a workdir that holds another run, or one of other versions of this library, JAX or
        optax.
      FileExistsError: if workdir holds a run and resume is false.
      FileNotFoundError: if resume is true and workdir holds no run.
      BlockingIOError: if another run is at work in workdir.
      OSError: if workdir can't be written; the checkpoints that it has are kept.
      NonFiniteLoss: if a loss or λ̂ became NaN or infinite.
      Interrupted: on Ctrl-C or SIGTERM with a workdir, after saving.
    """
    if resume and workdir is None:
        raise ValueError("fit() can resume only a run that has a workdir.")
    mesh = plans.named_mesh(mesh)
    crew = multihost.crew(mesh)
    if eval_every is None and resume and workdir is not None:
        eval_every = crew.by_first(read_identity, workdir).get("eval_every")
    plan = plans.plan(
        seeds=seeds,
        steps=steps,
        inner_steps=inner_steps,
        train_batch_size=train_batch_size,
        valid_batch_size=valid_batch_size,
        eval_every=eval_every,
        checkpoint_every=checkpoint_every,
        seeds_at_once=seeds_at_once,
    )
    data = plans.splits(data)
    plans.require_divisible(mesh, plan, data)
    if not callable(hyperparams):
        hyperparams = plans.movable(hyperparams)

    with sharding.over(mesh):
        data = sharding.everywhere(data)
        programs = _programs(problem, method, hyperparams, plan)
        plans.require_consistent(problem, method, programs.like, data, plan)
        if workdir is None:
            return _run(programs, plan, data, None, crew, progress)
        identity = {
            **plan._asdict(),
            "data": plans.describe(data, contents=True),
            "hyperparams": (
                "a function"
                if callable(hyperparams)
                else plans.describe(hyperparams, contents=True)
            ),
            "state": plans.describe(programs.like),
            "config": dict(config or {}),
        }
        for changeable in ("steps", "checkpoint_every", "seeds_at_once"):
            del identity[changeable]
        with contextlib.closing(crew.run_directory(workdir, identity, resume=resume)) as directory:
            done = directory.latest_step or 0
            if done > steps:
                raise ValueError(f"{directory.path} has done {done} steps, more than {steps=}.")
            return _run(programs, plan, data, directory, crew, progress)


def _run(
    programs: _Programs,
    plan: Plan,
    data: Data,
    directory: RunDirectory | None,
    crew: multihost.Crew,
    progress: bool | None,
) -> Result:
    """The run itself, from its start or from the directory's newest checkpoint."""
    steps, eval_every, keys = plan.steps, plan.eval_every, sharding.place(_keys(plan.seeds))
    done = (directory.latest_step or 0) if directory else 0
    started = time.perf_counter()
    if directory and done:
        losses = jax.eval_shape(programs.evaluate, programs.like, data)
        blank = histories.blank(losses, programs.like.hyperparams, done // eval_every + 1)
        state, history = directory.restore((programs.like, blank))
        state = sharding.place(jax.tree.map(jnp.asarray, state))
        records = histories.unstack(history)
    else:
        state = programs.start(keys)
        losses = jax.device_get(sharding.whole(programs.evaluate(state, data)))
        records = [histories.first(losses, sharding.whole(state.hyperparams))]
        _require_finite(histories.finite(records[0])[:, None], 0, plan.seeds, data, directory)
    chunk = programs.chunk
    if done < steps:
        chunk = chunk.lower(programs.like, keys, data, jnp.int32(0)).compile()
    compile_seconds = time.perf_counter() - started

    if directory:
        directory.begin(map(histories.summary, records))
    quiet = None if progress is None else not progress
    bar = tqdm(total=steps, initial=done, unit=" steps", disable=quiet if crew.leads else True)
    stopping = None
    with bar, Interruption(listening=directory is not None) as interruption:
        while done < steps and not stopping:
            began = time.perf_counter()
            state, infos, losses = chunk(state, keys, data, jnp.int32(done))
            infos, losses = jax.device_get(sharding.whole((infos, losses)))
            seconds = time.perf_counter() - began
            done += eval_every
            hyperparams = sharding.whole(state.hyperparams)
            records.append(
                histories.after(records[-1], eval_every, seconds, infos, losses, hyperparams)
            )
            finite = np.isfinite(infos.train_loss) & np.isfinite(infos.valid_loss)
            finite[:, -1] &= histories.finite(records[-1])
            _require_finite(finite, done, plan.seeds, data, directory)
            train, valid = np.mean(losses.train), np.mean(losses.valid)
            bar.set_postfix(train=f"{train:.4g}", valid=f"{valid:.4g}", refresh=False)
            bar.update(eval_every)
            if directory:
                directory.log(histories.summary(records[-1]))
                # Read once: a signal that comes later is for the next chunk, or the end.
                stopping = crew.agreed(interruption.signal_number)
                if stopping or done == steps or done // eval_every % plan.checkpoint_every == 0:
                    directory.save(done, (state, histories.stack(records)))
    stopped_by = crew.agreed(interruption.signal_number) if directory else None
    if directory and stopped_by:
        raise Interrupted(
            f"stopped at step {done} of {steps} and saved in {directory.path}; "
            "run the same again with resume=True (--resume) to go on.",
            stopped_by,
        )
    return Result(
        hyperparams=sharding.whole(state.hyperparams),
        params=sharding.whole(programs.weights(state)),
        state=state,
        history=histories.stack(records),
        compile_seconds=compile_seconds,
    )


def _programs(problem: Problem, method: HyperOptimizer, hyperparams: Any, plan: Plan) -> _Programs:
    # A seed's first key starts it, and its second drives the steps.

    def start(key: jax.Array) -> Any:
        key_first, key_method = jax.random.split(jax.random.split(key)[0])
        first = plans.movable(hyperparams(key_first)) if callable(hyperparams) else hyperparams
        return method.init(key_method, first)

    def evaluate(state: Any, data: Data) -> SplitLosses:
        params = method.weights(state)
        splits = (sharding.spread_if_even(split, "examples") for split in data)
        return SplitLosses(
            *(problem.valid_loss(params, state.hyperparams, split) for split in splits)
        )

    def chunk(state: Any, key: jax.Array, data: Data, first_step: jax.Array) -> Any:
        key_steps = jax.random.split(key)[1]
        # Before the loop, for XLA makes a copy for each inner step.
        everything = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (plan.inner_steps, *leaf.shape)), data.train
        )

        def step(state: Any, keys: jax.Array) -> tuple[Any, Info]:
            key_train, key_valid, key_step = keys
            train_batches = everything
            if plan.train_batch_size is not None:
                size = plan.inner_steps, plan.train_batch_size
                train_batches = minibatch(key_train, data.train, size)
            valid_batch = minibatch(key_valid, data.valid, plan.valid_batch_size)
            train_batches = sharding.spread(train_batches, "examples", axis=1)
            valid_batch = sharding.spread(valid_batch, "examples")
            return method.step(key_step, state, train_batches, valid_batch)

        # All keys in one go, for each round of hashing by itself costs as much as a small product.
        numbers = first_step + jnp.arange(plan.eval_every)
        keys = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(key_steps, n), 3))(numbers)
        state, infos = jax.lax.scan(step, state, keys)
        return state, infos, evaluate(state, data)

    started = jax.eval_shape(jax.vmap(start), _keys(plan.seeds))
    # Without the weak types that it may start with, for a restored state has none.
    like = sharding.laid_out(started)
    at, by_seed = jax.tree.map(lambda leaf: leaf.sharding, like), sharding.by_seed()
    return _Programs(
        like=like,
        start=jax.jit(sharding.each_seed(start, 1), out_shardings=at),
        evaluate=jax.jit(sharding.each_seed(evaluate, 1), out_shardings=by_seed),
        chunk=jax.jit(
            sharding.each_seed(chunk, 2, plan.seeds_at_once),
            donate_argnums=0,
            out_shardings=(at, by_seed, by_seed),
        ),
        weights=jax.jit(sharding.each_seed(method.weights, 1), out_shardings=by_seed),
    )


def _keys(seeds: Sequence[int]) -> jax.Array:
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def _require_finite(
    finite: np.ndarray,
    step: int,
    seeds: Sequence[int],
    data: Data,
    directory: RunDirectory | None,
) -> None:
    """Raises unless all of `finite`, (seeds, steps), are true; its last column is `step`."""
    if finite.all():
        return
    column = int(np.argmin(finite.all(0)))
    bad = [seed for seed, good in zip(seeds, finite[:, column], strict=True) if not good]
    kept = "No checkpoint was kept."
    if directory and directory.latest_step is not None:
        kept = f"The checkpoint of step {directory.latest_step} is kept in {directory.path}."
    step += column + 1 - finite.shape[1]
    if spoilt := plans.not_finite(data):
        cause = f"{', '.join(spoilt)} holds NaN or infinite numbers; mend or leave out those rows."
    elif not step:
        cause = "No step was taken yet, so a loss itself, or where it starts, is the cause."
    else:
        cause = (
            "A step size too large for the hypernet or for the hyperparameters is the usual "
            "cause: try a smaller one, or optax.clip_by_global_norm."
        )
    raise NonFiniteLoss(
        f"a loss or hyperparameter is not finite at step {step}, seeds {bad}. {kept} {cause}"
    )
