"""Sizes of a run, checked before anything is traced or written."""

import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from shohypernet._internal import sharding, validation
from shohypernet.batches import Data, rows
from shohypernet.sources import Source, Stream

DEFAULT_EVALUATIONS = 100
LAST_SEED = 2**32 - 1  # of a larger one JAX takes 32 bits, and so another seed's numbers


class Plan(NamedTuple):
    """Sizes of a run; see the arguments of `fit`."""

    seeds: list[int]
    steps: int
    inner_steps: int
    train_batch_size: int | None
    valid_batch_size: int | None
    eval_every: int
    checkpoint_every: int
    seeds_at_once: int | None

    def chunk(self, done: int) -> int:
        """Number of steps until the next evaluation: at a multiple of eval_every, or the end."""
        return min(self.eval_every - done % self.eval_every, self.steps - done)

    def chunks(self, done: int) -> list[int]:
        """The different numbers of steps between evaluations from now on."""
        sizes = []
        while done < self.steps and len(sizes) < 2:  # after an odd one, whole ones to the last
            sizes.append(self.chunk(done))
            done += sizes[-1]
        if done < self.steps:
            sizes.append((self.steps - done) % self.eval_every or self.eval_every)
        return sorted(set(sizes))

    def evaluations(self, done: int) -> int:
        """Number of evaluations in the history of a run that ends here."""
        return -(-done // self.eval_every) + 1


def plan(
    *,
    seeds: int | Iterable[int],
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
      ValueError: for a size that isn't a whole number of 1 or more, or seeds that don't each give
        random numbers of their own.
    """
    steps = _whole("steps", steps)
    every = _default_eval_every(steps) if eval_every is None else _whole("eval_every", eval_every)
    return Plan(
        seeds=distinct_seeds([seeds] if isinstance(seeds, int | np.integer) else seeds),
        steps=steps,
        inner_steps=_whole("inner_steps", inner_steps),
        train_batch_size=_whole_or_none("train_batch_size", train_batch_size),
        valid_batch_size=_whole_or_none("valid_batch_size", valid_batch_size),
        eval_every=every,
        checkpoint_every=_whole("checkpoint_every", checkpoint_every),
        seeds_at_once=_whole_or_none("seeds_at_once", seeds_at_once),
    )


def with_streams(plan: Plan, data: Data) -> Plan:
    """The plan with the batch sizes of streams, which need not be given.

    Raises:
      ValueError: for what would go through a stream more than once.
    """
    streams = [split for split in data if isinstance(split, Stream)]
    if streams and plan.seeds_at_once not in (None, len(plan.seeds)):
        raise ValueError("fit() goes through a stream once for all seeds; leave seeds_at_once out.")
    if len({id(stream.order) for stream in streams}) < len(streams):
        raise ValueError("fit() needs a stream for each split, got one for two of them.")

    def size(split: Any, given: int | None) -> int | None:
        return split.batch_size if isinstance(split, Stream) and given is None else given

    return plan._replace(
        train_batch_size=size(data.train, plan.train_batch_size),
        valid_batch_size=size(data.valid, plan.valid_batch_size),
    )


def splits(data: Any, function: str = "fit") -> Data:
    """The splits as device arrays, once each holds examples; that for tests may be None."""
    if not isinstance(data, tuple | list) or len(data) != len(Data._fields):
        raise ValueError(
            f"{function}() needs data in three splits, {Data._fields}, the last of which may be "
            f"None; got {type(data)}."
        )
    for name, split in zip(Data._fields, data, strict=True):
        if isinstance(split, Source) or (name == "test" and split is None):
            continue
        _require_arrays(function, name, split)
        _require_whole_numbers_kept(function, name, split)
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(split)]
        rows = {shape[:1] for shape in shapes}
        if len(rows) != 1 or rows <= {(), (0,)}:
            raise ValueError(
                f"the arrays of data.{name} need a leading axis in common, of one example or "
                f"more, but have shapes {shapes}."
            )
    return Data(*(jax.tree.map(jnp.asarray, split) for split in data))


def _require_arrays(function: str, name: str, split: Any) -> None:
    """Refuse what would have to be gone through, before anything tries to."""
    for leaf in jax.tree.leaves(split, is_leaf=lambda node: hasattr(node, "__next__")):
        if not (hasattr(leaf, "shape") or isinstance(leaf, numbers.Number)):
            raise TypeError(
                f"{function}() needs arrays for data.{name}, got a {type(leaf).__name__}. What is "
                "too large for memory, or has its examples one by one, goes in by "
                "shn.sources.rows() or shn.sources.examples(); what comes in minibatches, by "
                "shn.sources.stream()."
            )


def _require_whole_numbers_kept(function: str, name: str, split: Any) -> None:
    """Refuse whole numbers that JAX's 32 bits would change, such as identifiers."""
    for path, leaf in jax.tree.leaves_with_path(split):
        there = np.asarray(leaf) if isinstance(leaf, np.ndarray) else np.empty(0)
        here = jax.dtypes.canonicalize_dtype(there.dtype) if there.dtype.kind in "iuf" else None
        if here is None or here == there.dtype or not there.size:
            continue
        if there.dtype.kind == "f" and there.flat[0] != np.floor(there.flat[0]):
            continue  # measurements, which are rounded
        whole = np.isfinite(there) & (there == np.floor(there))
        with np.errstate(over="ignore", invalid="ignore"):
            changed = whole & (there.astype(here).astype(there.dtype) != there)
        if changed.any() and (there.dtype.kind != "f" or whole.all()):
            raise ValueError(
                f"data.{name}{jax.tree_util.keystr(path)} holds the whole number "
                f"{there[changed].flat[0]}, which {here.name} can't hold, in which {function}() "
                "would keep it. Number them anew, as by np.unique(ids, return_inverse=True), or "
                "allow 64 bits: jax.config.update('jax_enable_x64', True)."
            )


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
    unknown = [name for name in mesh.axis_names if name not in sharding.AXES]
    if unknown:
        raise ValueError(
            f"fit() can't shard a run over mesh axes {unknown}; name them among {sharding.AXES}."
        )
    processes = {device.process_index for device in mesh.devices.flat}
    if processes != {jax.process_index()} and len(processes) < jax.process_count():
        raise ValueError(
            f"fit() needs a mesh over devices of this process, {jax.process_index()}, or of all "
            f"{jax.process_count()}, got one over those of {sorted(processes)}; make it from "
            "jax.local_devices() or jax.devices()."
        )
    types = (jax.sharding.AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=types)


def require_divisible(mesh: Mesh | None, plan: Plan, data: Data) -> None:
    """Refuse seeds and batches that the mesh's devices can't share evenly."""
    train, valid = map(rows, data[:2])
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


def require_sizes(function: str, data: Data, mesh: Mesh | None = None, **sizes: int | None) -> None:
    """Refuse to take a source whole, and to go through a stream in several places.

    Args:
      function: for the message.
      data: the three splits.
      mesh: devices of the run.
      **sizes: the batch size of training and, if there is one, of validation, by argument.

    Raises:
      ValueError: naming the argument, or the split.
    """
    for split, (name, size) in zip(data, sizes.items(), strict=False):
        if isinstance(split, Source) and not isinstance(split, Stream) and size is None:
            raise ValueError(
                f"{function}() can't take a source of {len(split):,} examples whole in each step: "
                f"give {name}, such as {name}=100."
            )
    if mesh is None or not ("seeds" in mesh.axis_names or mesh.is_multi_process):
        return
    for name, split in data._asdict().items():
        if isinstance(split, Stream):
            raise ValueError(
                f"{function}() can't go through a stream, data.{name}, in several processes, or "
                "under a mesh axis 'seeds', whose devices don't wait for one another. Take axes "
                "'examples', 'samples' or 'weights' of one process; or give a source with random "
                "access, such as shn.sources.examples(loader.dataset)."
            )


def distinct_seeds(seeds: Iterable[int], function: str = "fit") -> list[int]:
    """Seeds, once they are known to give each its own random numbers."""
    seeds = list(seeds)
    apart = all(isinstance(seed, numbers.Integral) and 0 <= seed <= LAST_SEED for seed in seeds)
    if not seeds or not apart or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{function}() needs one seed or more, each once and a whole number from 0 to "
            f"{LAST_SEED}, got {seeds}."
        )
    return [int(seed) for seed in seeds]


def _whole(name: str, size: Any) -> int:
    validation.whole("fit", **{name: size})
    return int(size)


def _whole_or_none(name: str, size: Any) -> int | None:
    return None if size is None else _whole(name, size)


def _default_eval_every(steps: int) -> int:
    # A divisor, where one is near: a last chunk that is shorter is compiled by itself.
    fewest = -(-steps // DEFAULT_EVALUATIONS)
    return next((n for n in range(fewest, 2 * fewest + 1) if steps % n == 0), fewest)
