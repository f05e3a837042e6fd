"""The one driver: runs any HyperOptimizer, compiled, for many seeds at once.

Steps run in compiled chunks: a `scan` over steps inside a `vmap` over seeds, with the data on the
device and the state's buffers donated. Python is entered once a chunk, to record, show and save.

All randomness of step t of a seed comes from fold_in(key of the seed, t), so a run that is stopped
and resumed goes through the same numbers as one that never was.
"""

import contextlib
import numbers
import operator
import os
import time
import zlib
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
from shohypernet.run_directory import RunDirectory, read_identity

DEFAULT_EVALUATIONS = 100
IDENTITY = ("seeds", "inner_steps", "train_batch_size", "valid_batch_size", "eval_every")
LAST_SEED = 2**32 - 1  # without 64-bit integers JAX takes a larger seed for one of these


class NonFiniteLoss(FloatingPointError):
    """A loss or λ̂ became NaN or infinite; the message says at which step and what to try."""


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


class _Plan(NamedTuple):
    """What was asked of `fit`, once it is known to make sense."""

    seeds: Sequence[int]
    steps: int
    inner_steps: int
    train_batch_size: int | None
    valid_batch_size: int | None
    eval_every: int
    checkpoint_every: int
    progress: bool | None


class _Programs(NamedTuple):
    """What is compiled, each for all seeds: keys, states and losses lead with the seed axis.

    Attributes:
      start: `start(keys) -> state`.
      evaluate: `evaluate(state, data) -> losses`.
      chunk: `chunk(state, keys, data, first_step) -> (state, infos, losses)`: eval_every steps,
        then an evaluation. The state's buffers are donated.
      weights: `weights(state) -> params`.
    """

    start: Any
    evaluate: Any
    chunk: Any
    weights: Any


class _Losses(NamedTuple):
    """The problem's `valid_loss` on all of each split."""

    train: Any
    valid: Any
    test: Any


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
      config: more of what makes this run itself, such as the optimisers' step sizes, as JSON can
        hold it; only a run with an equal one is resumed.
      progress: whether to show a progress bar; by default when standard error is a terminal.

    Returns:
      The final hyperparameters, weights and state, and the history.

    Raises:
      ValueError: for a bad size, start or loss, or for a workdir that holds another run.
      FileExistsError: if workdir holds a run and resume is false.
      FileNotFoundError: if resume is true and workdir holds no run.
      BlockingIOError: if another run is at work in workdir.
      NonFiniteLoss: if a loss or λ̂ became NaN or infinite.
      Interrupted: on Ctrl-C or SIGTERM with a workdir, after saving.
    """
    _require_whole(steps=steps, inner_steps=inner_steps, checkpoint_every=checkpoint_every)
    optional = {
        "train_batch_size": train_batch_size,
        "valid_batch_size": valid_batch_size,
        "eval_every": eval_every,
    }
    _require_whole(**{name: size for name, size in optional.items() if size is not None})
    if resume and workdir is None:
        raise ValueError("fit() can resume only a run that has a workdir.")
    if eval_every is None:
        there = read_identity(workdir) if resume and workdir is not None else {}
        eval_every = there.get("eval_every") or _default_eval_every(steps)
    if steps % eval_every:
        more = steps - steps % eval_every + eval_every
        raise ValueError(f"{eval_every=} must divide {steps=}; {more} steps would do.")
    seeds = [operator.index(seed) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) > LAST_SEED:
        raise ValueError(
            f"fit() needs one seed or more, each once and from 0 to {LAST_SEED}, got {seeds}."
        )
    data = _on_device(data)

    batching = inner_steps, train_batch_size, valid_batch_size
    plan = _Plan(seeds, steps, *batching, eval_every, checkpoint_every, progress)
    programs = _programs(problem, method, hyperparams, plan)
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        jax.eval_shape(programs.start, _keys(seeds)),
    )
    _require_consistent(problem, method, state, data, plan)
    if workdir is None:
        return _run(programs, plan, data, state, None)
    identity = {
        **{name: getattr(plan, name) for name in IDENTITY},
        "data": _described(data, contents=True),
        "hyperparams": None if callable(hyperparams) else _described(hyperparams, contents=True),
        "state": _described(state),
        "config": dict(config or {}),
    }
    with contextlib.closing(RunDirectory(workdir, identity, resume=resume)) as directory:
        if (directory.latest_step or 0) > steps:
            raise ValueError(
                f"{directory.path} has done {directory.latest_step} steps, more than {steps=}."
            )
        return _run(programs, plan, data, state, directory)


def _run(
    programs: _Programs, plan: _Plan, data: Data, like: Any, directory: RunDirectory | None
) -> Result:
    """Runs, from the start or the directory's newest checkpoint; `like` is the state's shapes."""
    steps, eval_every, keys = plan.steps, plan.eval_every, _keys(plan.seeds)
    done = (directory.latest_step or 0) if directory else 0
    started = time.perf_counter()
    if directory and done:
        losses = _empty(jax.eval_shape(programs.evaluate, like, data))
        blank = _first_record(losses, _empty(like.hyperparams))
        history = _stack([blank] * (done // eval_every + 1))
        state, history = directory.restore((_empty(like), history))
        state, records = jax.tree.map(jnp.asarray, state), _unstack(history)
    else:
        state = programs.start(keys)
        losses = jax.device_get(programs.evaluate(state, data))
        records = [_first_record(losses, state.hyperparams)]
        _require_finite(_finite(records[0])[:, None], 0, plan.seeds, directory)
    chunk = programs.chunk
    if done < steps:
        chunk = chunk.lower(like, keys, data, jnp.int32(0)).compile()
    compile_seconds = time.perf_counter() - started

    if directory:
        directory.begin(map(_summary, records))
    bar = tqdm(
        total=steps,
        initial=done,
        unit=" steps",
        disable=None if plan.progress is None else not plan.progress,
    )
    stopping = None
    with bar, Interruption(listening=directory is not None) as interruption:
        while done < steps and not stopping:
            began = time.perf_counter()
            state, infos, losses = chunk(state, keys, data, jnp.int32(done))
            infos, losses = jax.device_get((infos, losses))
            seconds = time.perf_counter() - began
            done += eval_every
            records.append(_record(records[-1], done, seconds, infos, losses, state.hyperparams))
            finite = np.isfinite(infos.train_loss) & np.isfinite(infos.valid_loss)
            finite[:, -1] &= _finite(records[-1])
            _require_finite(finite, done, plan.seeds, directory)
            bar.update(eval_every)
            bar.set_postfix(
                train=f"{np.mean(losses.train):.4g}",
                valid=f"{np.mean(losses.valid):.4g}",
                refresh=False,
            )
            if directory:
                # Read once: a signal from here on is for the next chunk, or for after the last.
                stopping = interruption.signal_number
                directory.log(_summary(records[-1]))
                if stopping or done == steps or done // eval_every % plan.checkpoint_every == 0:
                    directory.save(done, (state, _stack(records)))
    if directory and interruption.signal_number:
        raise Interrupted(
            f"stopped at step {done} of {steps} and saved in {directory.path}; "
            "run the same again with resume=True (--resume) to go on.",
            interruption.signal_number,
        )
    return Result(
        hyperparams=state.hyperparams,
        params=programs.weights(state),
        state=state,
        history=_stack(records),
        compile_seconds=compile_seconds,
    )


def _programs(problem: Problem, method: HyperOptimizer, hyperparams: Any, plan: _Plan) -> _Programs:
    # A seed's first key starts it, and its second drives the steps.

    def start(key: jax.Array) -> Any:
        key_first, key_method = jax.random.split(jax.random.split(key)[0])
        first = hyperparams(key_first) if callable(hyperparams) else hyperparams
        for path, leaf in jax.tree.leaves_with_path(first):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise ValueError(
                    f"hyperparameter {jax.tree_util.keystr(path)} starts as "
                    f"{jnp.result_type(leaf)}, which a gradient can't move; start from floats."
                )
        if not jax.tree.leaves(first):
            raise ValueError(f"fit() needs hyperparameters to start from, got {first}.")
        return method.init(key_method, jax.tree.map(jnp.asarray, first))

    def evaluate(state: Any, data: Data) -> _Losses:
        params = method.weights(state)
        return _Losses(*(problem.valid_loss(params, state.hyperparams, split) for split in data))

    def chunk(state: Any, key: jax.Array, data: Data, first_step: jax.Array) -> Any:
        key = jax.random.split(key)[1]
        # Outside the loop, for XLA makes as many copies as there are inner steps.
        everything = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (plan.inner_steps, *leaf.shape)), data.train
        )

        def step(state: Any, number: jax.Array) -> tuple[Any, Info]:
            key_train, key_valid, key_step = jax.random.split(jax.random.fold_in(key, number), 3)
            train_batches = everything
            if plan.train_batch_size is not None:
                size = plan.inner_steps, plan.train_batch_size
                train_batches = minibatch(key_train, data.train, size)
            valid_batch = minibatch(key_valid, data.valid, plan.valid_batch_size)
            return method.step(key_step, state, train_batches, valid_batch)

        state, infos = jax.lax.scan(step, state, first_step + jnp.arange(plan.eval_every))
        return state, infos, evaluate(state, data)

    return _Programs(
        start=jax.jit(jax.vmap(start)),
        evaluate=jax.jit(jax.vmap(evaluate, in_axes=(0, None))),
        chunk=jax.jit(jax.vmap(chunk, in_axes=(0, 0, None, None)), donate_argnums=0),
        weights=jax.jit(jax.vmap(method.weights)),
    )


def _keys(seeds: Sequence[int]) -> jax.Array:
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def _default_eval_every(steps: int) -> int:
    fewest = -(-steps // DEFAULT_EVALUATIONS)
    return next(n for n in range(fewest, steps + 1) if steps % n == 0)


def _first_record(losses: _Losses, hyperparams: Any) -> History:
    zeros = np.zeros(losses.train.shape)
    return History(
        step=np.int64(0),
        seconds=np.float64(0),
        gradient_evaluations=zeros.astype(np.int64),
        hypergradient_norm=zeros,
        train_loss=losses.train,
        valid_loss=losses.valid,
        test_loss=losses.test,
        hyperparams=_copied(hyperparams),
    )


def _record(
    last: History, step: int, seconds: float, infos: Info, losses: _Losses, hyperparams: Any
) -> History:
    return History(
        step=np.int64(step),
        seconds=last.seconds + seconds,
        gradient_evaluations=last.gradient_evaluations + infos.gradient_evaluations.sum(1),
        hypergradient_norm=np.mean(infos.hypergradient_norm, axis=1, dtype=np.float64),
        train_loss=losses.train,
        valid_loss=losses.valid,
        test_loss=losses.test,
        hyperparams=_copied(hyperparams),
    )


def _copied(hyperparams: Any) -> Any:
    # The state's own buffers are donated to the next chunk.
    return jax.tree.map(np.array, hyperparams)


def _stack(records: Sequence[History]) -> History:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *records)


def _unstack(history: History) -> list[History]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], history) for i in range(len(history.step))]


def _summary(record: History) -> dict[str, Any]:
    fields = record._asdict()
    del fields["hyperparams"]
    return {name: leaf.tolist() for name, leaf in fields.items()}


def _empty(tree: Any) -> Any:
    """Arrays of the shapes and dtypes of `jax.ShapeDtypeStruct`s, NumPy's where it has the dtype."""
    return jax.tree.map(
        lambda leaf: (
            jnp.empty(leaf.shape, leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
            else np.empty(leaf.shape, leaf.dtype)
        ),
        tree,
    )


def _described(tree: Any, *, contents: bool = False) -> dict[str, str]:
    """Each leaf's dtype and shape, by its path; with a checksum of its contents, if asked."""

    def described(leaf: Any) -> str:
        text = f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        if contents:
            raw = np.ascontiguousarray(jnp.asarray(leaf)).view(np.uint8)
            text += f" crc32 {zlib.crc32(raw):08x}"
        return text

    return {
        jax.tree_util.keystr(path, simple=True, separator="."): described(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _on_device(data: Any) -> Data:
    if isinstance(data, Mapping) or len(data) != len(Data._fields):
        raise ValueError(f"fit() needs data in three splits, {Data._fields}, got {type(data)}.")
    for name, split in zip(Data._fields, data, strict=True):
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(split)]
        rows = {shape[:1] for shape in shapes}
        if len(rows) != 1 or rows <= {(), (0,)}:
            raise ValueError(
                f"data.{name} must be arrays with a leading axis in common, of one example or "
                f"more, got shapes {shapes}."
            )
    return Data(*(jax.tree.map(jnp.asarray, split) for split in data))


def _require_whole(**sizes: Any) -> None:
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral) or size < 1:
            raise ValueError(f"fit() needs {name} to be a whole number >= 1, got {size!r}.")


def _require_consistent(
    problem: Problem, method: HyperOptimizer, state: Any, data: Data, plan: _Plan
) -> None:
    """Refuses what every method would stumble over; traces it, but compiles nothing."""

    def check(state: Any, data: Data) -> None:
        key = jax.random.key(0)
        params, expected = method.weights(state), jax.eval_shape(problem.init, key)
        made, needed = _described(params), _described(expected)
        if made != needed:
            raise ValueError(
                "the method's weights are not like those of problem.init; was its hypernet made "
                f"for other weights? It has {made}, the problem {needed}."
            )
        batch = minibatch(key, data.train, plan.train_batch_size)
        losses = {
            "train_loss": problem.train_loss(params, state.hyperparams, batch, key),
            "valid_loss": problem.valid_loss(params, state.hyperparams, data.valid),
        }
        for name, loss in losses.items():
            if not _is_floating_scalar(loss):
                came = jax.tree.map(jax.typeof, loss)
                raise ValueError(f"problem.{name} must return a floating-point scalar, got {came}.")

    jax.eval_shape(jax.vmap(check, in_axes=(0, None)), state, data)


def _is_floating_scalar(loss: Any) -> bool:
    shapes = jax.tree.map(jnp.shape, loss)
    return shapes == () and jnp.issubdtype(jnp.result_type(loss), jnp.floating)


def _finite(record: History) -> np.ndarray:
    """Whether a record's losses and λ̂ are finite, shape (S,)."""
    checked = record.train_loss, record.valid_loss, record.test_loss, record.hyperparams
    leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(checked)]
    return np.all([np.isfinite(leaf).all(1) for leaf in leaves], axis=0)


def _require_finite(
    finite: np.ndarray, step: int, seeds: Sequence[int], directory: RunDirectory | None
) -> None:
    """Raises for the first False in `finite`, (seeds, steps), whose last column is `step`."""
    if finite.all():
        return
    column = int(np.argmin(finite.all(0)))
    bad = [seed for seed, good in zip(seeds, finite[:, column], strict=True) if not good]
    kept = "No checkpoint was kept."
    if directory and directory.latest_step is not None:
        kept = f"The checkpoint of step {directory.latest_step} is kept in {directory.path}."
    raise NonFiniteLoss(
        f"a loss or hyperparameter is not finite at step {step - finite.shape[1] + column + 1}, "
        f"seeds {bad}. {kept} A step size too large for the hypernet or for the hyperparameters "
        "is the usual cause, and bad values in the data the next: try a smaller one, or "
        "optax.clip_by_global_norm."
    )
