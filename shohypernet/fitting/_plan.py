"""What `fit` is asked for, refused in plain words before anything is compiled or written."""

import numbers
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from shohypernet import diagnostics
from shohypernet._internal import jaxprs, sharding, validation
from shohypernet.batches import Data, minibatch
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem

DEFAULT_EVALUATIONS = 100
LAST_SEED = 2**32 - 1  # of a larger one JAX takes 32 bits, and so another seed's numbers


class Plan(NamedTuple):
    """What `fit` does and how often; see its arguments."""

    seeds: list[int]
    steps: int
    inner_steps: int
    train_batch_size: int | None
    valid_batch_size: int | None
    eval_every: int
    checkpoint_every: int
    seeds_at_once: int | None


def plan(
    *,
    seeds: Iterable[int],
    steps: int,
    inner_steps: int,
    train_batch_size: int | None,
    valid_batch_size: int | None,
    eval_every: int | None,
    checkpoint_every: int,
    seeds_at_once: int | None,
) -> Plan:
    """A plan that can be carried out.

    Raises:
      ValueError: for a size that isn't a whole number of 1 or more, an `eval_every` that doesn't
        divide `steps`, or seeds that don't each give numbers of their own.
    """
    steps = _whole("steps", steps)
    every = _default_eval_every(steps) if eval_every is None else _whole("eval_every", eval_every)
    if steps % every:
        more = steps - steps % every + every
        raise ValueError(f"eval_every={every} must divide {steps=}; {more} steps would do.")
    return Plan(
        seeds=distinct_seeds(seeds),
        steps=steps,
        inner_steps=_whole("inner_steps", inner_steps),
        train_batch_size=_whole_or_none("train_batch_size", train_batch_size),
        valid_batch_size=_whole_or_none("valid_batch_size", valid_batch_size),
        eval_every=every,
        checkpoint_every=_whole("checkpoint_every", checkpoint_every),
        seeds_at_once=_whole_or_none("seeds_at_once", seeds_at_once),
    )


def splits(data: Any, function: str = "fit") -> Data:
    """The three splits as device arrays, once each is known to hold examples."""
    if not isinstance(data, tuple | list) or len(data) != len(Data._fields):
        raise ValueError(
            f"{function}() needs data in three splits, {Data._fields}, got {type(data)}."
        )
    for name, split in zip(Data._fields, data, strict=True):
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(split)]
        rows = {shape[:1] for shape in shapes}
        if len(rows) != 1 or rows <= {(), (0,)}:
            raise ValueError(
                f"the arrays of data.{name} need a leading axis in common, of one example or "
                f"more, but have shapes {shapes}."
            )
    return Data(*(jax.tree.map(jnp.asarray, split) for split in data))


def named_mesh(mesh: Any) -> Mesh | None:
    """A mesh whose axes mean something to `fit`, its types such that XLA derives what they leave.

    Raises:
      ValueError: for what is no mesh, for an axis of another name, and for one that spans some
        processes of `jax.distributed` and not all.
    """
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise ValueError(
            f"fit() needs a jax.sharding.Mesh, such as jax.make_mesh((8,), ('seeds',)), got {mesh}."
        )
    strange = [name for name in mesh.axis_names if name not in sharding.AXES]
    if strange:
        raise ValueError(
            f"fit() can't spread a run over mesh axes {strange}; name them among {sharding.AXES}."
        )
    at_work = {device.process_index for device in mesh.devices.flat}
    if at_work != {jax.process_index()} and len(at_work) < jax.process_count():
        raise ValueError(
            f"fit() needs a mesh over devices of this process, {jax.process_index()}, or of all "
            f"{jax.process_count()}, got one over those of {sorted(at_work)}; make it from "
            "jax.local_devices() or jax.devices()."
        )
    types = (jax.sharding.AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=types)


def require_divisible(mesh: Mesh | None, plan: Plan, data: Data) -> None:
    """Refuses seeds and batches that the mesh's devices can't share evenly."""
    train, valid, _ = (len(jax.tree.leaves(split)[0]) for split in data)
    shared = {
        "seeds": {"the number of seeds": len(plan.seeds)},
        "examples": {
            "train_batch_size (all of data.train when None)": plan.train_batch_size or train,
            "valid_batch_size (all of data.valid when None)": plan.valid_batch_size or valid,
        },
    }
    for axis, devices in (mesh.shape if mesh else {}).items():
        for name, size in shared.get(axis, {}).items():
            if size % devices:
                raise ValueError(
                    f"{name} must be a multiple of the {devices} devices of mesh axis {axis!r}, "
                    f"got {size}; {size - size % devices + devices} would do, or fewer devices."
                )


def movable(hyperparams: Any) -> Any:
    """Hyperparameters as arrays, once they are known to be such as a gradient can move.

    Those that a function is still to make can't be looked at: a run finds NaN there at its start.
    """
    named = jax.tree.leaves_with_path(hyperparams)
    if not named:
        raise ValueError(f"fit() needs hyperparameters to start from, got {hyperparams}.")
    for path, leaf in named:
        name = f"hyperparameter {jax.tree_util.keystr(path) or 'λ̂'}"
        if not _is_floating(leaf):
            raise ValueError(
                f"{name} starts as {jnp.result_type(leaf)}, which a gradient can't move; start "
                "from floats."
            )
        if not isinstance(leaf, Tracer) and not np.all(np.isfinite(leaf)):
            raise ValueError(
                f"{name} starts as {leaf}, but must be finite: it is unconstrained, so that a "
                "decay of 0 has no logarithm to start from."
            )
    return jax.tree.map(jnp.asarray, hyperparams)


def require_consistent(
    problem: Problem, method: HyperOptimizer, states: Any, data: Data, plan: Plan
) -> None:
    """Refuses a method made for other weights than the problem's, and what has no gradient.

    That is a loss that isn't a floating-point scalar, and a hyperparameter that is read by neither
    loss nor, on the way to the weights, by what the method trains them with. All are traced, but
    nothing is compiled; `states` are those of all seeds, or their shapes.
    """

    def check(state: Any) -> None:
        key = jax.random.key(0)
        params = method.weights(state)
        made = _by_path(jnp.shape, params)
        needed = _by_path(jnp.shape, jax.eval_shape(problem.init, key))
        if made != needed:
            raise ValueError(
                "the method's weights are not like those of problem.init; was its hypernet made "
                f"for another model?\n  the method's: {made}\n  the problem's: {needed}"
            )
        train_batch = minibatch(key, data.train, plan.train_batch_size)
        valid_batch = minibatch(key, data.valid, plan.valid_batch_size)

        def losses(hyperparams: Any) -> dict[str, Any]:
            return {
                "train_loss": problem.train_loss(params, hyperparams, train_batch, key),
                "valid_loss": problem.valid_loss(params, hyperparams, valid_batch),
            }

        for name, loss in losses(state.hyperparams).items():
            if jax.tree.map(jnp.shape, loss) != () or not _is_floating(loss):
                came = jax.tree.map(lambda leaf: str(jax.typeof(leaf)), loss)
                raise ValueError(f"problem.{name} must return a floating-point scalar, got {came}.")
        train_batches = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (plan.inner_steps, *leaf.shape)), train_batch
        )
        if unread := _unread(method, key, state, losses, (train_batches, valid_batch)):
            raise ValueError(f"hyperparameter {', '.join(unread)} {diagnostics.NOT_IN_LOSSES}")

    jax.eval_shape(jax.vmap(check), states)


def _unread(
    method: HyperOptimizer,
    key: jax.Array,
    state: Any,
    losses: Callable[[Any], Any],
    batches: tuple[Any, Any],
) -> list[str]:
    """The hyperparameters that neither a loss nor an inner optimizer reads, by name."""
    in_losses = jaxprs.reads(losses, state.hyperparams)
    if all(in_losses):
        return []

    def at_once(hyperparams: Any) -> Any:
        return method.weights(state._replace(hyperparams=hyperparams))

    def after_a_round(hyperparams: Any) -> Any:
        before = state._replace(hyperparams=hyperparams)
        return method.weights(method.step(key, before, *batches)[0])

    # A hypernet's weights depend at once on any λ, whether it means something or not. Those that an
    # inner optimizer trains depend on the λ that it reads, and by way of a round alone.
    by_hypernet, by_round = (
        jaxprs.reads(weights, state.hyperparams) for weights in (at_once, after_a_round)
    )
    names = _by_path(jnp.shape, state.hyperparams)
    each = zip(names, in_losses, by_hypernet, by_round, strict=True)
    return [name or "λ̂" for name, read, now, later in each if not read and (now or not later)]


def not_finite(data: Data) -> list[str]:
    """The names of the data's arrays that hold NaN or infinite numbers."""
    named = _by_path(lambda leaf: bool(jnp.all(jnp.isfinite(leaf))), data)
    return [f"data.{name}" for name, finite in named.items() if not finite]


def distinct_seeds(seeds: Iterable[int], function: str = "fit") -> list[int]:
    """Seeds, once they are known to give numbers each of its own."""
    seeds = list(seeds)
    apart = all(isinstance(seed, numbers.Integral) and 0 <= seed <= LAST_SEED for seed in seeds)
    if not seeds or not apart or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{function}() needs one seed or more, each once and a whole number from 0 to "
            f"{LAST_SEED}, got {seeds}."
        )
    return [int(seed) for seed in seeds]


def describe(tree: Any, *, contents: bool = False) -> dict[str, str]:
    """Each leaf's dtype and shape by its path and, if asked, a checksum of what it holds."""

    def described(leaf: Any) -> str:
        text = f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        if not contents:
            return text
        return f"{text} crc32 {zlib.crc32(np.asarray(jnp.asarray(leaf)).tobytes()):08x}"

    return _by_path(described, tree)


def _by_path(function: Callable[[Any], Any], tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): function(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _whole(name: str, size: Any) -> int:
    validation.whole("fit", **{name: size})
    return int(size)


def _whole_or_none(name: str, size: Any) -> int | None:
    return None if size is None else _whole(name, size)


def _default_eval_every(steps: int) -> int:
    fewest = -(-steps // DEFAULT_EVALUATIONS)
    return next(n for n in range(fewest, steps + 1) if steps % n == 0)
