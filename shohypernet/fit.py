"""The one driver: runs any HyperOptimizer, compiled, for many seeds at once.

Steps run in compiled chunks: a `scan` over steps inside a `vmap` over seeds, with the data on the
device and the state's buffers donated. Python is entered once a chunk, to record, show and save.

All randomness of step t of a seed comes from fold_in(key of the seed, t), so a run that is stopped
and resumed goes through the same numbers as one that never was.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from shohypernet.data import Data, minibatch
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.interruption import Interrupted, Interruption
from shohypernet.problem import Problem
from shohypernet.run_directory import RunDirectory

DEFAULT_EVALUATIONS = 100


class NonFiniteLoss(FloatingPointError):
    """A loss became NaN or infinite; the message says at which step and what to try."""


class History(NamedTuple):
    """What happened, at E evaluations (the first before any step) of S seeds.

    Attributes:
      step: steps done, shape (E,).
      seconds: time spent in compiled steps and evaluations, shape (E,).
      gradient_evaluations: their running count, shape (E, S).
      hypergradient_norm: its mean since the last evaluation (0 at the start), shape (E, S).
      train_loss: the problem's `valid_loss` on all training examples, at w(λ̂), shape (E, S).
      valid_loss: likewise on the validation examples, shape (E, S).
      test_loss: likewise on the test examples, shape (E, S). Nothing is chosen by it.
      hyperparams: λ̂, unconstrained, a tree with leaves (E, S, ...).
    """

    step: np.ndarray
    seconds: np.ndarray
    gradient_evaluations: np.ndarray
    hypergradient_norm: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray
    test_loss: np.ndarray
    hyperparams: Any


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


class _Batching(NamedTuple):
    """How a chunk of steps draws its batches."""

    inner_steps: int
    train_batch_size: int | None
    valid_batch_size: int | None


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
) -> Result:
    """Tunes hyperparameters with a method, for every seed in one vmapped run.

    Args:
      problem: what is tuned; its `valid_loss` also measures the history's three losses.
      method: how.
      data: three splits of examples, each a tree with a shared leading axis.
      hyperparams: where λ̂ starts, unconstrained: a tree of floating-point arrays that all seeds
        share, or a function from a seed's key to such a tree.
      steps: rounds to do, each one call of `method.step`. A resumed run may ask for more.
      seeds: one run for each, all in one compiled call.
      inner_steps: training batches for each round.
      train_batch_size: examples in each, drawn with replacement; None takes all of them.
      valid_batch_size: validation examples for each round, likewise.
      eval_every: rounds from one evaluation of all data to the next, a divisor of `steps`; by
        default the smallest that makes at most a hundred evaluations.
      workdir: a folder for log and checkpoints; nothing is written when None.
      resume: whether to go on with the run that workdir holds, bit for bit.
      checkpoint_every: evaluations from one checkpoint to the next.
      config: more of what makes this run itself, as JSON can hold it; only a run with an equal
        one is resumed.
      progress: whether to show a progress bar; by default when standard error is a terminal.

    Returns:
      The final hyperparameters, weights and state, and the history.

    Raises:
      ValueError: for a bad size or start, or for a workdir that holds another run.
      FileExistsError: if workdir holds a run and resume is false.
      FileNotFoundError: if resume is true and workdir holds no run.
      NonFiniteLoss: if a loss became NaN or infinite.
      Interrupted: on Ctrl-C or SIGTERM with a workdir, after saving.
    """
    batching = _Batching(inner_steps, train_batch_size, valid_batch_size)
    eval_every = eval_every or _default_eval_every(steps)
    _require_positive(steps=steps, eval_every=eval_every, checkpoint_every=checkpoint_every)
    _require_positive(**{name: size for name, size in batching._asdict().items() if size != None})
    if steps % eval_every:
        more = steps - steps % eval_every + eval_every
        raise ValueError(f"{eval_every=} must divide {steps=}; {more} steps would do.")
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"fit() needs one seed or more, each once, got {tuple(seeds)}.")
    if resume and workdir is None:
        raise ValueError("fit() can resume only a run that has a workdir.")

    # A seed's first key starts it, and its second drives the steps.
    keys = jax.vmap(jax.random.split)(jnp.stack([jax.random.key(seed) for seed in seeds]))
    started = time.perf_counter()
    start, evaluate, chunk = _programs(problem, method, hyperparams, batching, eval_every)
    state = start(keys[:, 0])
    losses = jax.device_get(evaluate(state, data))
    chunk = chunk.lower(state, keys[:, 1], data, jnp.int32(0)).compile()
    compile_seconds = time.perf_counter() - started

    records = [_first_record(state, losses)]
    directory, done = None, 0
    if workdir is not None:
        identity = {
            **batching._asdict(),
            "seeds": list(seeds),
            "eval_every": eval_every,
            "examples": [_examples(split) for split in data],
            "state": [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(state)],
            "config": dict(config or {}),
        }
        directory = RunDirectory(workdir, identity, resume=resume)
        done = directory.latest_step or 0
        if done > steps:
            raise ValueError(f"{workdir} has done {done} steps already; {steps=} must be as many.")
        if done:
            like = state, _stack(records * (done // eval_every + 1))
            state, saved = directory.restore(done, like)
            records = _unstack(saved)
        else:
            directory.log(_summary(records[0]))

    bar = tqdm(
        total=steps, initial=done, unit=" steps", disable=None if progress is None else not progress
    )
    with bar, Interruption(listening=directory is not None) as interruption:
        while done < steps:
            began = time.perf_counter()
            state, infos, losses = chunk(state, keys[:, 1], data, jnp.int32(done))
            infos, losses = jax.device_get((infos, losses))
            seconds = time.perf_counter() - began
            _require_finite(infos, losses, done, seeds, directory)
            done += eval_every
            records.append(_record(records[-1], done, seconds, infos, losses, state))
            bar.update(eval_every)
            bar.set_postfix(
                train=f"{np.mean(losses[0]):.4g}", valid=f"{np.mean(losses[1]):.4g}", refresh=False
            )
            if directory is None:
                continue
            directory.log(_summary(records[-1]))
            stopping = interruption.signal_number
            if stopping or done == steps or (done // eval_every) % checkpoint_every == 0:
                directory.save(done, (state, _stack(records)))
            if stopping and done < steps:
                raise Interrupted(
                    f"stopped at step {done} of {steps} and saved in {directory.path}; "
                    "run the same again with resume=True (--resume) to go on.",
                    stopping,
                )
    return Result(
        hyperparams=state.hyperparams,
        params=jax.jit(jax.vmap(method.weights))(state),
        state=state,
        history=_stack(records),
        compile_seconds=compile_seconds,
    )


def _programs(
    problem: Problem,
    method: HyperOptimizer,
    hyperparams: Any,
    batching: _Batching,
    eval_every: int,
) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    """The three functions that are compiled, each over all seeds: start, evaluate and chunk."""

    def start(key: jax.Array) -> Any:
        key_start, key_method = jax.random.split(key)
        first = hyperparams(key_start) if callable(hyperparams) else hyperparams
        for path, leaf in jax.tree.leaves_with_path(first):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise ValueError(
                    f"hyperparameter {jax.tree_util.keystr(path)} starts as "
                    f"{jnp.result_type(leaf)}, which a gradient can't move; start from floats."
                )
        return method.init(key_method, jax.tree.map(jnp.asarray, first))

    def evaluate(state: Any, data: Data) -> list[jax.Array]:
        params = method.weights(state)
        return [problem.valid_loss(params, state.hyperparams, split) for split in data]

    def chunk(state: Any, key: jax.Array, data: Data, first_step: jax.Array) -> Any:
        def step(state: Any, number: jax.Array) -> tuple[Any, Info]:
            key_train, key_valid, key_step = jax.random.split(jax.random.fold_in(key, number), 3)
            train_batches = _train_batches(key_train, data.train, batching)
            valid_batch = minibatch(key_valid, data.valid, batching.valid_batch_size)
            return method.step(key_step, state, train_batches, valid_batch)

        state, infos = jax.lax.scan(step, state, first_step + jnp.arange(eval_every))
        return state, infos, evaluate(state, data)

    return (
        jax.jit(jax.vmap(start)),
        jax.jit(jax.vmap(evaluate, in_axes=(0, None))),
        jax.jit(jax.vmap(chunk, in_axes=(0, 0, None, None)), donate_argnums=0),
    )


def _train_batches(key: jax.Array, examples: Any, batching: _Batching) -> Any:
    inner_steps, size, _ = batching
    if size is None:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (inner_steps, *x.shape)), examples)
    return minibatch(key, examples, (inner_steps, size))


def _default_eval_every(steps: int) -> int:
    fewest = -(-steps // DEFAULT_EVALUATIONS)
    return next((n for n in range(max(fewest, 1), steps) if steps % n == 0), max(steps, 1))


def _first_record(state: Any, losses: Any) -> History:
    zeros = np.zeros_like(losses[0])
    return History(
        np.int32(0), np.float32(0), zeros.astype(np.int32), zeros, *losses, _hyperparams(state)
    )


def _record(
    last: History, step: int, seconds: float, infos: Info, losses: Any, state: Any
) -> History:
    return History(
        np.int32(step),
        np.float32(last.seconds + seconds),
        last.gradient_evaluations + infos.gradient_evaluations.sum(1, dtype=np.int32),
        infos.hypergradient_norm.mean(1),
        *losses,
        _hyperparams(state),
    )


def _hyperparams(state: Any) -> Any:
    # A copy: the state's own buffers are donated to the next chunk.
    return jax.tree.map(np.array, state.hyperparams)


def _stack(records: Sequence[History]) -> History:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *records)


def _unstack(history: History) -> list[History]:
    return [
        jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), history)
        for i in range(len(history.step))
    ]


def _summary(record: History) -> dict[str, Any]:
    return {
        name: leaf.tolist()
        for name, leaf in record._replace(hyperparams=None)._asdict().items()
        if leaf is not None
    }


def _examples(split: Any) -> int:
    return jax.tree.leaves(split)[0].shape[0]


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"fit() needs {name} >= 1, got {size}.")


def _require_finite(
    infos: Info, losses: Any, done: int, seeds: Sequence[int], directory: RunDirectory | None
) -> None:
    finite = np.isfinite(infos.train_loss) & np.isfinite(infos.valid_loss)
    finite[:, -1] &= np.isfinite(losses).all(0)
    if finite.all():
        return
    offset = int(np.argmin(finite.all(0)))
    bad = [seed for seed, good in zip(seeds, finite[:, offset], strict=True) if not good]
    saved = directory.latest_step if directory else None
    kept = (
        "No checkpoint was kept." if saved is None else f"Step {saved} is kept in {directory.path}."
    )
    raise NonFiniteLoss(
        f"a loss is not finite at step {done + offset + 1}, seeds {bad}. {kept} A step size too "
        "large for the hypernet or for the hyperparameters is the usual cause, and bad values in "
        "the data the next: try a smaller one, or optax.clip_by_global_norm."
    )
