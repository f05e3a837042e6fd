"""The unit cube, in which black-box methods search any typed space.

A point u of (0, 1)^D becomes λ by the inverse distribution functions of the priors, one coordinate
for each number in the tree of hyperparameters: what is uniform in the cube follows the prior.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet.types import Hyperparams, Space

# Float32 tells 1 - EDGE from 1, and a quantile of 0 or 1 may be infinite.
EDGE = 1e-6


class UnitCube(NamedTuple):
    """The unit cube of a space.

    Attributes:
      names: names of the D coordinates, such as "decay[3]".
      specs: specs of the coordinates.
      hyperparams: points (P, D) -> λ, unconstrained, leaves (P, ...).
      encode: values in natural units (P, D), a category's as its index -> likewise.
      points: λ, unconstrained, leaves (P, ...) -> points (P, D), the inverse of `hyperparams`.
      values: likewise -> values in natural units (P, D), the inverse of `encode`.
      features: points (P, D) -> inputs for a model (P, F), where points of the same λ are the
        same: whole numbers at their bins' middles, and a category as as many columns as it has
        choices, any two of which are 1 apart.
      continuous: which coordinates λ follows smoothly, shape (D,).
    """

    names: list[str]
    specs: list[hp.Spec]
    hyperparams: Callable[[np.ndarray], Any]
    encode: Callable[[np.ndarray], Any]
    points: Callable[[Any], np.ndarray]
    values: Callable[[Any], np.ndarray]
    features: Callable[[np.ndarray], np.ndarray]
    continuous: np.ndarray

    @property
    def size(self) -> int:
        """D, the number of coordinates."""
        return len(self.names)


def unit_cube(space: Space, like: Hyperparams) -> UnitCube:
    """The unit cube of a space.

    Args:
      space: a tree of specs from `hyperparameters`, a prefix of `like`.
      like: a tree of arrays, or of anything with a shape, that gives the hyperparameters' shapes.

    Raises:
      ValueError: if there are no hyperparameters.
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
    names, specs = [], []
    for (path, _), spec, shape in zip(named, by_leaf, shapes, strict=True):
        for index in np.ndindex(shape):
            subscripts = "".join(f"[{i}]" for i in index)
            named_by = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
            names.append(f"{named_by}{subscripts}")
            specs.append(spec)
    cuts = np.cumsum(sizes)[:-1]

    def tree(columns: np.ndarray, function: Callable[[hp.Spec, np.ndarray], Any]) -> Any:
        leaves = [
            function(spec, np.reshape(column, (-1, *shape)))
            for spec, column, shape in zip(
                by_leaf, np.split(columns, cuts, axis=1), shapes, strict=True
            )
        ]
        return jax.tree.unflatten(treedef, leaves)

    def hyperparams(points: np.ndarray) -> Any:
        unit = np.clip(points, EDGE, 1 - EDGE)
        return tree(
            unit, lambda spec, unit: spec.quantile(jnp.asarray(unit, jnp.result_type(float)))
        )

    def encode(values: np.ndarray) -> Any:
        return tree(values, _encode)

    def columns(hyperparams: Any, function: Callable[[hp.Spec, Any], Any]) -> np.ndarray:
        leaves = jax.tree.leaves(hyperparams)
        parts = [
            np.reshape(function(spec, jnp.asarray(leaf)), (-1, size))
            for spec, leaf, size in zip(by_leaf, leaves, sizes, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def points(hyperparams: Any) -> np.ndarray:
        return columns(hyperparams, lambda spec, leaf: spec.cdf(leaf))

    def values(hyperparams: Any) -> np.ndarray:
        return columns(hyperparams, lambda spec, leaf: spec.decode(leaf))

    def features(points: np.ndarray) -> np.ndarray:
        if continuous.all():
            return points
        columns = [_features(spec, column) for spec, column in zip(specs, points.T, strict=True)]
        return np.concatenate(columns, axis=1)

    continuous = np.array([spec.differentiable for spec in specs])
    return UnitCube(names, specs, hyperparams, encode, points, values, features, continuous)


def _encode(spec: hp.Spec, values: np.ndarray) -> jax.Array:
    code = spec.encode(jnp.asarray(values, jnp.result_type(float)))
    # The bounds themselves have no finite code: there λ is as far out as the cube's points are.
    lowest, highest = spec.quantile(jnp.array([EDGE, 1 - EDGE]))
    return jnp.nan_to_num(code, nan=jnp.nan, neginf=lowest, posinf=highest)


def _features(spec: hp.Spec, column: np.ndarray) -> np.ndarray:
    if spec.differentiable:
        return column[:, None]
    bins = bin_count(spec)
    chosen = np.minimum(np.floor(column * bins), bins - 1)
    if spec.choices:
        return (chosen[:, None] == np.arange(bins)) / math.sqrt(2)
    return (chosen[:, None] + 0.5) / bins


def bin_count(spec: hp.Spec) -> int:
    """Number of values of an integer or a category."""
    low, high = spec.bounds
    return int(high - low) + 1
