"""The unit cube, in which black-box methods search any typed space.

A point u of (0, 1)^D becomes λ by the inverse distribution functions of the priors, one coordinate
for each number in the tree of hyperparameters: what is uniform in the cube follows the prior. The
coordinates of inactive hyperparameters are projected to the middles of their priors.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import _conditions as conditions
from shohypernet import hyperparameters as hp
from shohypernet._internal.trees import path_name
from shohypernet.types import Hyperparams, Space

# Float32 tells 1 - EDGE from 1, and a quantile of 0 or 1 may be infinite.
EDGE = 1e-6


class UnitCube(NamedTuple):
    """The unit cube of a space.

    Attributes:
      names: names of the D coordinates, such as "decay[3]".
      specs: specs of the coordinates, without their conditions.
      order: numbers of the coordinates, each after those that it is conditional on, shape (D,).
      asked: codes of each coordinate that others are conditional on, D arrays.
      hyperparams: points (P, D) -> λ, unconstrained, leaves (P, ...).
      encode: values in natural units (P, D), a category's as its index -> likewise. Those of
        inactive coordinates may be NaN.
      points: λ, unconstrained, leaves (P, ...) -> points (P, D), the inverse of `hyperparams`.
      values: likewise -> values in natural units (P, D), NaN where inactive: the inverse of
        `encode`.
      active: values in natural units (P, D) -> which coordinates are active, shape (P, D). It reads
        those of `asked` alone.
      project: points (P, D) -> likewise, in the middles of their priors where inactive.
      continuous: which coordinates λ follows smoothly, shape (D,).
    """

    names: list[str]
    specs: list[hp.Spec]
    order: np.ndarray
    asked: list[np.ndarray]
    hyperparams: Callable[[np.ndarray], Any]
    encode: Callable[[np.ndarray], Any]
    points: Callable[[Any], np.ndarray]
    values: Callable[[Any], np.ndarray]
    active: Callable[[np.ndarray], np.ndarray]
    project: Callable[[np.ndarray], np.ndarray]
    continuous: np.ndarray

    @property
    def size(self) -> int:
        """D, the number of coordinates."""
        return len(self.names)

    @property
    def conditional(self) -> bool:
        """Whether there are conditions."""
        return any(map(len, self.asked))

    def features(self, points: np.ndarray) -> np.ndarray:
        """Inputs for a model, shape (P, F), of points (P, D); those of the same λ are the same.

        Whole numbers are at their bins' middles, and a category is as many columns as it has
        choices, any two of which are 1 apart.
        """
        if self.continuous.all():
            return points
        columns = zip(self.specs, self.project(points).T, strict=True)
        return np.concatenate([_features(spec, column) for spec, column in columns], axis=1)


def unit_cube(space: Space, like: Hyperparams) -> UnitCube:
    """The unit cube of a space.

    Args:
      space: a tree of specs from `hyperparameters`, a prefix of `like`.
      like: a tree of arrays, or of anything with a shape, that gives the hyperparameters' shapes.

    Raises:
      ValueError: if there are no hyperparameters, or for conditions that can't be met.
    """
    named = jax.tree.leaves_with_path(like)
    treedef = jax.tree.structure(like)
    shapes = [np.shape(leaf) for _, leaf in named]
    sizes = [math.prod(shape) for shape in shapes]
    if not sum(sizes):
        raise ValueError(
            f"the space {space} with hyperparameters like {like} is empty; a search needs one "
            "hyperparameter or more."
        )
    by_leaf = jax.tree.leaves(hp.broadcast_space(space, like))
    names = [name for path, leaf in named for name in _names(path, np.shape(leaf))]
    specs = [spec.bare for spec, size in zip(by_leaf, sizes, strict=True) for _ in range(size)]
    cuts = np.cumsum(sizes)[:-1]
    order, asked, active = _conditions(space, like)
    some = any(map(len, asked))
    middles = np.array([0.5 if spec.differentiable else _unit(spec, 0.5) for spec in specs])

    def tree(columns: np.ndarray, function: Callable[[hp.Spec, np.ndarray], Any]) -> Any:
        leaves = [
            function(spec, np.reshape(column, (-1, *shape)))
            for spec, column, shape in zip(
                by_leaf, np.split(columns, cuts, axis=1), shapes, strict=True
            )
        ]
        return jax.tree.unflatten(treedef, leaves)

    def project(points: np.ndarray) -> np.ndarray:
        return np.where(active(natural(specs, points)), points, middles) if some else points

    def hyperparams(points: np.ndarray) -> Any:
        unit = np.clip(project(points), EDGE, 1 - EDGE)
        return tree(
            unit, lambda spec, unit: spec.quantile(jnp.asarray(unit, jnp.result_type(float)))
        )

    def encode(values: np.ndarray) -> Any:
        return conditions.project(space, tree(values, _encode))

    def columns(hyperparams: Any, function: Callable[[hp.Spec, Any], Any]) -> np.ndarray:
        leaves = jax.tree.leaves(hyperparams)
        parts = [
            np.reshape(function(spec, jnp.asarray(leaf)), (-1, size))
            for spec, leaf, size in zip(by_leaf, leaves, sizes, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def points(hyperparams: Any) -> np.ndarray:
        return project(columns(hyperparams, lambda spec, leaf: spec.cdf(leaf)))

    def values(hyperparams: Any) -> np.ndarray:
        found = columns(hyperparams, lambda spec, leaf: spec.decode(leaf))
        return np.where(active(found), found, np.nan) if some else found

    continuous = np.array([spec.differentiable for spec in specs])
    functions = hyperparams, encode, points, values, active, project
    return UnitCube(names, specs, order, asked, *functions, continuous)


def _names(path: Any, shape: tuple[int, ...]) -> list[str]:
    subscripts = ("".join(f"[{i}]" for i in index) for index in np.ndindex(shape))
    return [f"{path_name(path) or 'value'}{subscript}" for subscript in subscripts]


def _conditions(
    space: Space, like: Hyperparams
) -> tuple[np.ndarray, list[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """`order`, `asked` and `active` of `UnitCube`."""
    conditions.require_single(space, like)
    found = conditions.resolve(space)
    parts = jax.tree.structure(space).flatten_up_to(like)
    sizes = [sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(part)) for part in parts]
    owner = np.repeat(np.arange(len(parts)), sizes)  # number of each coordinate's spec
    column = np.cumsum(sizes) - sizes
    asked = [np.zeros(0, int)] * len(owner)
    for needs in found.needs:
        for parent, codes in needs:
            asked[column[parent]] = np.union1d(asked[column[parent]], codes)

    def active(values: np.ndarray) -> np.ndarray:
        masks = found.active(lambda parent: values[:, column[parent]])
        return np.stack([np.broadcast_to(mask, len(values)) for mask in masks], axis=1)[:, owner]

    return np.argsort(np.argsort(found.order)[owner], kind="stable"), asked, active


def _encode(spec: hp.Spec, values: np.ndarray) -> jax.Array:
    code = spec.encode(jnp.asarray(values, jnp.result_type(float)))
    # The bounds themselves have no finite code: there λ is as far out as the cube's points are.
    lowest, highest = spec.quantile(jnp.array([EDGE, 1 - EDGE]))
    return jnp.nan_to_num(code, nan=jnp.nan, neginf=lowest, posinf=highest)


def _features(spec: hp.Spec, column: np.ndarray) -> np.ndarray:
    if spec.differentiable:
        return column[:, None]
    if spec.choices:
        return (_code(spec, column)[:, None] == np.arange(bin_count(spec))) / math.sqrt(2)
    return _unit(spec, column)[:, None]


def natural(specs: list[hp.Spec], points: np.ndarray) -> np.ndarray:
    """Points (P, D) with whole numbers and categories' indices in place of their coordinates."""
    columns = zip(specs, points.T, strict=True)
    return np.stack(
        [column if spec.differentiable else _code(spec, column) for spec, column in columns], axis=1
    )


def _code(spec: hp.Spec, unit: Any) -> Any:
    bins = bin_count(spec)
    return spec.bounds[0] + np.minimum(np.floor(unit * bins), bins - 1)


def _unit(spec: hp.Spec, unit: Any) -> Any:
    """The middle of the bin."""
    return (_code(spec, unit) - spec.bounds[0] + 0.5) / bin_count(spec)


def bin_count(spec: hp.Spec) -> int:
    """Number of values of an integer or a category."""
    low, high = spec.bounds
    return int(high - low) + 1
