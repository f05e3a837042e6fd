"""Combinations of the values of a space, of which those that differ in inactive ones are the same.

Coordinates are gone through in an order in which each comes after those that it is conditional on,
so that of each combination so far it is known whether the next coordinate is active there.
"""

import math
from collections.abc import Sequence

import numpy as np

from shohypernet import _conditions as conditions
from shohypernet.search._unit_cube import UnitCube, bin_count, natural, unit_cube
from shohypernet.types import Space

MOST_COUNTED = 100_000  # combinations of static choices, and of what conditions name


def combinations(cube: UnitCube, axes: Sequence[np.ndarray], most: int) -> np.ndarray | None:
    """Points (N, D) with one of each axis' values where active, the middle where not.

    Args:
      cube: the unit cube.
      axes: values of each coordinate, D arrays.
      most: the most points; None is returned instead of more.
    """
    points = cube.project(np.full((1, cube.size), 0.5))
    for i in cube.order:
        active = np.ones(len(points), bool)
        if cube.conditional:
            active = cube.active(natural(cube.specs, points))[:, i]
        counts = np.where(active, len(axes[i]), 1)
        total = int(counts.sum())
        if total > most:
            return None
        number = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        points, active = np.repeat(points, counts, axis=0), np.repeat(active, counts)
        points[active, i] = axes[i][number[active]]
    return cube.project(points)


def count(cube: UnitCube) -> int | None:
    """Number of different points of whole numbers and categories; None if there are too many.

    Values that no condition names differ in nothing else, so one counts for all of them.
    """
    points = combinations(cube, [representatives(cube, i) for i in range(cube.size)], MOST_COUNTED)
    if points is None:
        return None
    values = natural(cube.specs, points)
    sizes = np.stack(
        [
            np.where(np.isin(column, codes), 1, bin_count(spec) - len(codes))
            for column, codes, spec in zip(values.T, cube.asked, cube.specs, strict=True)
        ],
        axis=1,
    )
    sizes = np.where(cube.active(values), sizes, 1)
    return sum(math.prod(row) for row in sizes.tolist())


def representatives(cube: UnitCube, i: int) -> np.ndarray:
    """Values of a coordinate that conditions name, and one of those that none does."""
    spec, codes = cube.specs[i], cube.asked[i]
    if spec.differentiable:
        return np.array([0.5])
    low, bins = spec.bounds[0], bin_count(spec)
    others = np.setdiff1d(low + np.arange(min(bins, len(codes) + 1)), codes)
    return (np.append(codes, others[:1]) - low + 0.5) / bins


def static_combinations(
    space: Space, static: Sequence[str]
) -> dict[tuple[int, ...], set[str]] | None:
    """Combinations of the codes of some hyperparameters, in order, by the names that are active.

    Args:
      space: space of these and all others.
      static: their names.

    Returns:
      By each combination, the names of the specs that are active at it, if other hyperparameters
      that they are conditional on are so; None for too many.
    """
    found = conditions.resolve(space)
    flat = dict(zip(found.names, found.specs, strict=True))
    if not flat:
        return {(): set()}
    names = sorted(flat)
    cube = unit_cube(flat, dict.fromkeys(names, np.zeros(())))  # a coordinate for each spec
    axes = [representatives(cube, i) for i in range(cube.size)]
    columns = [names.index(name) for name in static]
    for i in columns:
        bins = bin_count(cube.specs[i])
        axes[i] = (np.arange(bins) + 0.5) / bins
    points = combinations(cube, axes, MOST_COUNTED)
    if points is None:
        return None if static else {(): set(names)}
    values = natural(cube.specs, points)
    active: dict[tuple[int, ...], set[str]] = {}
    for codes, row in zip(
        values[:, columns].astype(int).tolist(), cube.active(values), strict=True
    ):
        active.setdefault(tuple(codes), set()).update(np.array(names)[row].tolist())
    return dict(sorted(active.items()))
