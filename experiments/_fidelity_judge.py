"""The judgement of hypergradients: each estimate beside the exact one, and its cost."""

import functools
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

import shohypernet as shn
from experiments import _decay_problem
from experiments._fidelity_entries import Entry, Point
from shohypernet import ridge
from shohypernet.batches import Data
from shohypernet.problem import Problem, unconstrained

MEGABYTE = 2**20


class Row(NamedTuple):
    """Findings about an entry at one point.

    Attributes:
      method: of the entry.
      budget: of the entry.
      level: the mean of λ.
      draw: the number of the draw of N(0, 1).
      cosine: to the exact hypergradient.
      norm_ratio: of the estimate to the exact one.
      evaluations: gradient evaluations.
      passes: the same in units of the whole training set.
      seconds: of one compiled call.
      megabytes: that the compiled call needs besides the data.
    """

    method: str
    budget: int
    level: float
    draw: int
    cosine: float
    norm_ratio: float
    evaluations: int
    passes: float
    seconds: float
    megabytes: float


def points(problem: Problem, data: Data, config: Any) -> dict[tuple[float, int], tuple[Point, Any]]:
    """The point of each level and draw, with its exact hypergradient."""
    exact, found = ridge.ridge(data), {}
    sharpness = jax.jit(functools.partial(shn.diagnostics.sharpness, unconstrained(problem)))
    for number, level in enumerate(config.levels):
        for draw in range(config.draws if level == config.main_level else 1):
            key = jax.random.fold_in(jax.random.key(draw), number)
            key_noise, key_sharpness, key_method = jax.random.split(key, 3)
            noise = jax.random.normal(key_noise, exact.train.cross.shape)
            decay = level + np.asarray(noise, np.float64)
            hyperparams = _decay_problem.from_ridge(decay)
            params = _decay_problem.from_ridge(ridge.best_response(exact, decay))
            steepest = sharpness(params, hyperparams, data.train, key_sharpness)
            point = Point(hyperparams, params, steepest, data, key_method)
            _, gradient = ridge.hypergradient(exact, decay)
            found[level, draw] = point, _decay_problem.from_ridge(gradient)
    return found


def judge(entry: Entry, points: dict[tuple[float, int], tuple[Point, Any]]) -> Iterable[Row]:
    """Compile an entry once, and try it at every point."""
    first, _ = next(iter(points.values()))
    compiled = jax.jit(entry.hypergradient).lower(first).compile()
    memory: Any = compiled.memory_analysis()
    examples = len(first.data.train.inputs)
    for (level, draw), (point, exact) in points.items():
        began = time.perf_counter()
        gradient, evaluations = jax.block_until_ready(compiled(point))
        seconds = time.perf_counter() - began
        yield Row(
            entry.method,
            entry.budget,
            level,
            draw,
            float(shn.diagnostics.cosine(gradient, exact)),
            float(shn.diagnostics.norm_ratio(gradient, exact)),
            int(evaluations),
            int(evaluations) * (entry.batch_size or examples) / examples,
            seconds,
            (memory.temp_size_in_bytes + memory.output_size_in_bytes) / MEGABYTE,
        )
