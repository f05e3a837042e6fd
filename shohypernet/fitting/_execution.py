"""The loop of a run: chunks of steps, an evaluation after each, callbacks, log and checkpoints."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from shohypernet._internal import sharding
from shohypernet._internal.trees import data_as_keys, keys_as_data
from shohypernet.batches import Data
from shohypernet.fitting import _consistency as consistency
from shohypernet.fitting import _health as health
from shohypernet.fitting import _history as histories
from shohypernet.fitting import _multihost as multihost
from shohypernet.fitting._history import History
from shohypernet.fitting._plan import Plan
from shohypernet.fitting._programs import Programs, keys
from shohypernet.fitting._progress import Callback, Progress
from shohypernet.fitting._result import Best, Result
from shohypernet.fitting._run_directory import RunDirectory
from shohypernet.fitting._signals import Interrupted, Interruption
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem


class Run(NamedTuple):
    """What a run consists of."""

    problem: Problem
    method: HyperOptimizer
    data: Data
    plan: Plan
    programs: Programs
    group: multihost.ProcessGroup
    directory: RunDirectory | None
    callbacks: Sequence[Callback]


def execute(run: Run, progress: bool | None) -> Result:
    """The run, from its start or the newest checkpoint; its result lacks natural units."""
    plan, data, directory = run.plan, run.data, run.directory
    done = (directory.latest_step or 0) if directory else 0
    if directory and done > plan.steps:
        raise ValueError(f"{directory.path} has done {done} steps, more than steps={plan.steps}.")
    seed_keys = sharding.place(keys(plan.seeds))
    started = time.perf_counter()
    chunks = _traced(run, seed_keys, done)
    state, best, records = _restored(run, done) if done else _started(run, seed_keys)
    compiled = {steps: _compiled(run, steps, chunk) for steps, chunk in chunks.items()}
    compile_seconds = time.perf_counter() - started

    last, lost = records[-1], health.lost_before(records, plan.seeds, data)
    if done % plan.eval_every and done < plan.steps:
        records.pop()  # the end of a shorter run, and no evaluation of this one
    if directory:
        directory.begin(map(histories.summary, records))
    stopping = None
    bar, listening = _bar(run, done, progress), directory is not None
    with bar, Interruption(listening=listening) as interruption:
        while done < plan.steps and not stopping:
            steps, since = plan.chunk(done), done % plan.eval_every
            began = time.perf_counter()
            (state, best), *measured = compiled[steps](
                (state, best), seed_keys, data, jnp.int32(done)
            )
            infos, evaluation = jax.device_get(sharding.whole(measured))
            seconds = time.perf_counter() - began
            at = infos, evaluation, sharding.whole(state.hyperparams)
            last = histories.after(last, steps, seconds, *at, since=since)
            done += steps
            records.append(last)
            histories.thin(records)
            lost = health.lost_seeds(last, infos, plan.seeds, data, directory, lost)
            _show(bar, last, steps)
            if directory:
                directory.log(histories.summary(last))
            stopping = run.group.by_first(_asked_to_stop, run, records, state)
            if directory:
                # Read once: a signal that comes later is for the next chunk, or the end.
                stopping = run.group.agreed(interruption.signal_number) or stopping
                due = done // plan.eval_every % plan.checkpoint_every == 0
                if stopping or done == plan.steps or due:
                    kept = keys_as_data((state, best)), histories.stack(records)
                    directory.save(done, kept)
    if directory:
        _raise_if_interrupted(run, interruption, done)
    params, model_state = sharding.whole(run.programs.weights(state))
    return Result(
        hyperparams=None,
        unconstrained=sharding.whole(state.hyperparams),
        params=params,
        model_state=model_state,
        best=sharding.whole(best),
        state=state,
        history=histories.stack(records),
        compile_seconds=compile_seconds,
        seeds=tuple(plan.seeds),
        lost=lost,
    )


def _traced(run: Run, seed_keys: jax.Array, done: int) -> dict[int, Any]:
    """The chunks that are still to run, by their number of steps, once they can move λ̂."""
    made = run.programs
    chunks = {
        steps: made.chunk(steps).trace(
            (made.like, made.best_like), seed_keys, run.data, jnp.int32(0)
        )
        for steps in run.plan.chunks(done)
    }
    for chunk in list(chunks.values())[:1]:
        traces = made.start_trace, chunk.jaxpr
        consistency.require_movable(run.problem, run.method, made.like, run.data, run.plan, traces)
    return chunks


def _compiled(run: Run, steps: int, traced: Any) -> Callable[..., Any]:
    # Of a single seed every function is given numbers then, and one may step through a loss.
    if jax.config.jax_disable_jit:  # pyright: ignore
        return run.programs.chunk(steps)
    return traced.lower().compile()


def _started(run: Run, seed_keys: jax.Array) -> tuple[Any, Best, list[History]]:
    """The state before the first step, which is the best so far, and its record."""
    state = run.programs.start(seed_keys)
    best, evaluation = run.programs.evaluate(state, run.data)
    evaluation = jax.device_get(sharding.whole(evaluation))
    record = histories.first(evaluation, sharding.whole(state.hyperparams))
    health.lost_seeds(record, None, run.plan.seeds, run.data, run.directory, {})
    return state, best, [record]


def _restored(run: Run, done: int) -> tuple[Any, Best, list[History]]:
    """The state, the best so far and the records of the newest checkpoint."""
    assert run.directory is not None
    made = run.programs
    like = made.like, made.best_like
    evaluations = run.plan.evaluations(done)
    blank = histories.blank(made.evaluation_like, made.like.hyperparams, evaluations)
    carried, history = run.directory.restore((keys_as_data(like), blank))
    carried = jax.tree.map(jnp.asarray, data_as_keys(carried, like))
    state, best = sharding.place(carried)
    return state, best, histories.unstack(history)


def _raise_if_interrupted(run: Run, interruption: Interruption, done: int) -> None:
    number = run.group.agreed(interruption.signal_number)
    if number and run.directory:
        raise Interrupted(
            f"stopped at step {done} of {run.plan.steps} and saved in {run.directory.path}; "
            "run the same again with resume=True (--resume) to continue.",
            number,
        )


def _asked_to_stop(run: Run, records: list[History], state: Any) -> bool:
    """Whether any callback asks for the end; all are called."""
    progress = Progress(run.problem.space, records, state, run.plan.steps)
    return any([callback(progress) for callback in run.callbacks])


def _bar(run: Run, done: int, progress: bool | None) -> Any:
    quiet = (None if progress is None else not progress) if run.group.is_first else True
    return tqdm(total=run.plan.steps, initial=done, unit=" steps", disable=quiet)


def _show(bar: Any, record: History, steps: int) -> None:
    train, valid = np.nanmean(record.valid_loss_on_train), np.nanmean(record.valid_loss)
    bar.set_postfix(train=f"{train:.4g}", valid=f"{valid:.4g}", refresh=False)
    bar.update(steps)
