"""Sharding of a run over devices: meaning of a mesh's axis names, and placement of arrays.

    "seeds"      each device runs its own seeds, and waits for no other
    "samples"    the sampled λ of a hypernet's update
    "examples"   those of a minibatch, or of a whole split
    "weights"    the large arrays of a state, such as φ and what its optimizer keeps of it

Only `"seeds"` is programmed by hand (a `shard_map`). For the others a few arrays are constrained
and XLA derives the rest, communication included. JAX draws the same random numbers however they
are sharded, so that a mesh changes results by no more than the order of sums.

All functions go by the ambient mesh (`jax.set_mesh`), and without one they change nothing.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

AXES = ("seeds", "samples", "examples", "weights")
# Least size of one seed's array, in bytes, that "weights" shards. To gather a smaller one at every
# use takes longer than its memory is worth: a message's fixed cost is that of about so many bytes.
LARGE = 2**20


def over(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """Context in which the mesh is the ambient one; None changes nothing."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def constrain(tree: Any, name: str, axis: int = 0) -> Any:
    """Under `jit`, shard an axis of every leaf over the mesh's axis of that name, if it has one.

    Raises:
      ValueError: if the devices can't share that axis evenly.
    """
    if name not in _names():
        return tree

    def constrained(leaf: jax.Array) -> jax.Array:
        if not _even(leaf, name, axis):
            devices = _devices(name)
            raise ValueError(
                f"the {devices} devices of mesh axis {name!r} can't share {leaf.shape[axis]} "
                f"{name} evenly; choose a multiple of {devices}, or fewer devices."
            )
        spec: list[Any] = [PartitionSpec.UNCONSTRAINED] * leaf.ndim
        spec[axis] = name
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*spec))

    return jax.tree.map(constrained, tree)


def constrain_if_even(tree: Any, name: str) -> Any:
    """`constrain` of the leading axis, where the devices can share it evenly."""
    even = all(_even(leaf, name, 0) for leaf in jax.tree.leaves(tree))
    return constrain(tree, name) if even else tree


def even(size: int, name: str) -> int:
    """The largest number up to a size that the devices of an axis can share evenly, or the size."""
    devices = _devices(name) if name in _names() else 1
    return size - size % devices or size


def by_device(function: Callable[..., Any], *numbers: jax.Array) -> Any:
    """`function(device, *numbers)` in every device by itself, such as a call to its host.

    Args:
      function: to a tree of arrays that lead with the axes of `numbers`.
      *numbers: of examples, of one shape. The mesh's axis "examples" shares the last axis, where it
        can do so evenly; all other axes of the mesh repeat them.

    Returns:
      What the function of all numbers would give.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(mesh.axis_names) & set(AXES):
        return function(jnp.int32(0), *numbers)

    def each(*own: jax.Array) -> Any:
        return function(jax.lax.axis_index(mesh.axis_names), *own)

    if not _names():
        return each(*numbers)
    axes: list[Any] = [None] * numbers[0].ndim
    if axes and _even(numbers[0], "examples", -1):
        axes[-1] = "examples"
    spec = PartitionSpec(*axes)
    return jax.shard_map(
        each, in_specs=spec, out_specs=spec, axis_names=set(_names()), check_vma=False
    )(*numbers)


def from_one(tree: Any) -> Any:
    """Copy arrays that one device has, such as by a call to the host, to all of the mesh."""
    if not _names():
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec()), tree)


def each_seed(
    function: Callable[..., Any], own: int, at_once: int | None = None
) -> Callable[..., Any]:
    """`vmap` of a function of one seed, each device with its own share of seeds.

    Args:
      function: of one seed.
      own: number of its arguments, the first ones, that lead with the seed axis.
      at_once: number of a device's seeds that are vmapped, the others waiting; None for all.

    Returns:
      The function of all seeds.
    """

    def mapped(*arguments: Any) -> Any:
        def one(own_arguments: Any) -> Any:
            return function(*own_arguments, *arguments[own:])

        seeds = len(jax.tree.leaves(arguments[:own])[0])
        size = min(at_once or seeds, seeds)
        # A seed by itself is not vmapped: φ's gradients would come out transposed.
        if size < seeds or size == 1:
            return jax.lax.map(one, arguments[:own], batch_size=None if size == 1 else size)
        return jax.vmap(one)(arguments[:own])

    def shared_out(*arguments: Any) -> Any:
        specs = [
            PartitionSpec("seeds") if i < own else PartitionSpec() for i in range(len(arguments))
        ]
        # Not left to XLA, which would gather the seeds for what it can't cut, such as eigenvectors.
        return jax.shard_map(
            mapped,
            in_specs=tuple(specs),
            out_specs=PartitionSpec("seeds"),
            axis_names={"seeds"},
            check_vma=False,  # a method's loops may start from constants, which are no seed's own
        )(*arguments)

    return shared_out if "seeds" in _names() else mapped


def laid_out(tree: Any) -> Any:
    """Shapes, dtypes and, with a mesh, placement of arrays that lead with the seed axis."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_spec(leaf)), tree
    )


def by_seed() -> PartitionSpec | None:
    """Placement of results that are sharded by seed alone; None without a mesh."""
    return PartitionSpec(_seeds()) if _names() else None


def place(tree: Any) -> Any:
    """Place arrays that lead with the seed axis as `laid_out` says."""
    return jax.tree.map(lambda leaf: _moved(leaf, _spec(leaf)), tree) if _names() else tree


def everywhere(tree: Any) -> Any:
    """Copy arrays to all devices of the mesh; several processes must hold equal ones."""
    return jax.device_put(tree, PartitionSpec()) if _names() else tree


def whole(tree: Any) -> Any:
    """Arrays that this process can read, from arrays that may be sharded over several."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        return _moved(leaf, PartitionSpec()).addressable_data(0)

    return jax.tree.map(one, tree)


def _names() -> tuple[str, ...]:
    return tuple(name for name in jax.sharding.get_abstract_mesh().auto_axes if name in AXES)


def _devices(name: str) -> int:
    return jax.sharding.get_abstract_mesh().shape[name]


def _even(leaf: Any, name: str, axis: int) -> bool:
    return name in _names() and leaf.shape[axis] % _devices(name) == 0


def _seeds() -> str | None:
    return "seeds" if "seeds" in _names() else None


def _spec(leaf: Any) -> PartitionSpec | None:
    large = math.prod(leaf.shape[1:]) * leaf.dtype.itemsize >= LARGE
    axes = range(1, len(leaf.shape))
    even = [axis for axis in axes if large and _even(leaf, "weights", axis)]
    if not even:
        return by_seed()
    spec: list[Any] = [_seeds(), *[None] * len(axes)]
    spec[max(even, key=lambda axis: leaf.shape[axis])] = "weights"
    return PartitionSpec(*spec)


def _moved(leaf: Any, spec: PartitionSpec | None) -> jax.Array:
    # By jit, for device_put moves no random keys to other processes.
    return jax.jit(lambda leaf: leaf, out_shardings=spec)(leaf)
