"""The response of a finished run: predicted losses and weights at hyperparameters not run.

A method with a model of the best response has learned more than λ̂: its `weights_at` gives weights
for other λ, and so losses, without any training. They are to be trusted as far as λ was sampled
about λ̂ or, where the model is a slope, as far as a straight line goes.

    curve = shn.response.slice(method, result, data, {"dropout.Dropout_0": np.linspace(0.05, 0.8)})
    shn.plots.response(curve).savefig("what_if.png")
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop, sources
from shohypernet._internal import validation
from shohypernet._internal.trees import by_path
from shohypernet.batches import Data, SplitLosses, minibatch, rows
from shohypernet.fitting import Result
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem, relaxed
from shohypernet.types import Batch, Hyperparams, Params

MOST_EXAMPLES = 1_000  # of a training batch that a slope is taken on


class Curve(NamedTuple):
    """Predicted losses at a number of λ.

    Attributes:
      hyperparams: λ in natural units, leaves with a leading axis of G.
      losses: the problem's `valid_loss` on all examples of each split, in the form of the axes: of
        shape (G,), or (G₁, G₂) for a slice along two.
      metrics: the problem's metrics by name, likewise.
      axes: values along each axis, by the path of its hyperparameter; none for a `curve` of several
        hyperparameters.
      tuned: where the run itself ended on each axis, of an array its median.
    """

    hyperparams: Hyperparams
    losses: SplitLosses
    metrics: dict[str, SplitLosses]
    axes: dict[str, np.ndarray]
    tuned: dict[str, float]


def weights(method: HyperOptimizer, result: Result, data: Data, hyperparams: Hyperparams) -> Params:
    """Weights that a run predicts for any λ, without any training.

    Args:
      method: of the run.
      result: of the run, of one seed, with its state.
      data: of the run; a slope may depend on training examples.
      hyperparams: λ, in natural units.

    Returns:
      A tree like `result.params`.

    Raises:
      ValueError: for a method without a model of the response, a result of several seeds or of a
        file, or λ outside of the space.
    """
    weights_at, state, batch = _response("weights", method, result, data)
    return weights_at(state, hp.encode(_problem(method).space, hyperparams), batch)


def curve(method: HyperOptimizer, result: Result, data: Data, hyperparams: Hyperparams) -> Curve:
    """Losses that a run predicts along a grid of λ.

    Args:
      method: of the run, with a model of the response, such as `global_response`.
      result: of the run, of one seed, with its state.
      data: the splits.
      hyperparams: λ in natural units, a tree like `result.hyperparams` whose leaves have one more
        axis in front, of G.

    Returns:
      The losses, of shape (G,).

    Raises:
      ValueError: as for `weights`, or for leaves without such an axis.
    """
    like = jax.tree.map(jnp.shape, result.hyperparams)
    shapes = jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], hyperparams)
    counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(hyperparams)}
    validation.require(
        shapes == like and len(counts) == 1 and not counts & {(), (0,)},
        f"curve() needs hyperparameters of shapes {like} with one axis in front, the same for all, "
        f"got shapes {jax.tree.map(jnp.shape, hyperparams)}.",
    )
    losses, metrics = _losses("curve", method, result, data, hyperparams)
    ends = by_path(np.asarray, result.hyperparams)
    (name, end), *others = ends.items()
    alone = not others and end.ndim == 0
    values = by_path(np.asarray, hyperparams)
    axes, tuned = ({name: values[name]}, {name: float(end)}) if alone else ({}, {})
    return Curve(hyperparams, losses, metrics, axes, tuned)


def slice(
    method: HyperOptimizer, result: Result, data: Data, along: Mapping[str, Sequence[float]]
) -> Curve:
    """Losses that a run predicts where one or two hyperparameters change: "what if".

    Args:
      method: of the run, with a model of the response, such as `self_tuning`.
      result: of the run, of one seed, with its state.
      data: the splits.
      along: values in natural units by the hyperparameter's path, such as
        `{"dropout.Dropout_0": np.linspace(0.05, 0.8)}`; all numbers of an array take the same. All
        others stay where the run ended.

    Returns:
      The losses, with an axis for each entry.

    Raises:
      ValueError: as for `weights`, or for paths that there aren't.
    """
    ends = by_path(np.asarray, result.hyperparams)
    validation.require(
        0 < len(along) <= 2 and set(along) <= set(ends),
        f"slice() goes along one or two of {sorted(ends)}, got {sorted(along)}.",
    )
    axes = {path: np.atleast_1d(np.asarray(values, float)) for path, values in along.items()}
    validation.require(
        all(values.ndim == 1 and values.size for values in axes.values()),
        "slice() needs a value or more for each hyperparameter, in one row.",
    )
    points = list(itertools.product(*axes.values()))

    def grid(path: str) -> np.ndarray:
        end = ends[path]
        if path not in axes:
            return np.broadcast_to(end, (len(points), *end.shape))
        values = np.array([point[list(axes).index(path)] for point in points], end.dtype)
        return np.broadcast_to(values.reshape(-1, *[1] * end.ndim), (len(points), *end.shape))

    treedef = jax.tree.structure(result.hyperparams)
    hyperparams = jax.tree.unflatten(treedef, [grid(path) for path in ends])
    losses, metrics = _losses("slice", method, result, data, hyperparams)
    shape = tuple(len(values) for values in axes.values())
    losses, metrics = jax.tree.map(lambda leaf: leaf.reshape(shape), (losses, metrics))
    tuned = {path: float(np.median(ends[path])) for path in axes}
    return Curve(hyperparams, losses, metrics, axes, tuned)


def _losses(
    function: str, method: HyperOptimizer, result: Result, data: Data, hyperparams: Hyperparams
) -> tuple[SplitLosses, dict[str, SplitLosses]]:
    weights_at, state, batch = _response(function, method, result, data)
    problem = relaxed(_problem(method))

    @jax.jit
    def at(hyperparams: Hyperparams, state: Any, model_state: Any, batch: Batch, data: Data) -> Any:
        params = weights_at(state, hyperparams, batch)
        return inner_loop.evaluate(problem, params, model_state, hyperparams, data)

    encoded = hp.encode(_problem(method).space, hyperparams)
    count = len(jax.tree.leaves(encoded)[0])
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], encoded) for i in range(count)]
    with sources.reading(**data._asdict()):
        found = [at(one, state, result.model_state, batch, data) for one in each]
        return jax.tree.map(lambda *leaves: np.array(leaves), *found)


def _response(
    function: str, method: HyperOptimizer, result: Result, data: Data
) -> tuple[Callable[..., Params], Any, Batch]:
    """The method's model of the response, and what it reads besides λ."""
    if method.weights_at is None:
        raise ValueError(
            f"{function}() needs a method with a model of the response: local_response(), "
            "global_response(), exploring_response(), centered_response() or self_tuning(). Others "
            "know one λ alone, and unrolled_response() what its steps make of one."
        )
    if isinstance(result.seeds, tuple) or result.state is None:
        raise ValueError(
            f"{function}() needs the result of one seed with its state: result.seed(i) of a run, "
            "not of a file."
        )
    size = min(rows(data.train), MOST_EXAMPLES)
    if isinstance(data.train, sources.Stream):
        return method.weights_at, result.state, data.train.take(jnp.arange(size))
    return method.weights_at, result.state, minibatch(jax.random.key(0), data.train, size)


def _problem(method: HyperOptimizer) -> Problem:
    return validation.problem(method.problem)
