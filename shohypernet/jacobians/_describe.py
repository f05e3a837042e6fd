"""The curvature that `kronecker` has for each array of weights, for people."""

from collections.abc import Mapping

import flax.linen as nn
import jax

from shohypernet import problem as problems
from shohypernet._internal.layers import LayerType, layers_of
from shohypernet.problem import Problem


def describe(
    problem: Problem, layer_types: Mapping[type[nn.Module], LayerType] | None = None
) -> str:
    """The curvature that `kronecker` has for each array of weights, as a table.

    A layer's A and G hold inputs² and outputs² numbers. A diagonal knows nothing of how weights act
    on each other: where much of a model has one, tell `kronecker` the type of those layers, or
    judge its hypergradient by that of a better solver.

    Args:
      problem: a problem, whose `init` calls Flax Linen modules.
      layer_types: as given to `kronecker`.

    Returns:
      A line for each array of weights, with its shape.

    Raises:
      ValueError: if `problem.init` calls no Flax Linen module.
    """
    params = problems.param_shapes(problem)
    by_leaf = {
        leaf: layer
        for layer in layers_of(problem, params, layer_types)
        for leaf in (layer.kernel, layer.bias)
    }
    lines = []
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(params)):
        curvature = "diagonal"
        if i in by_leaf:
            inputs, outputs = by_leaf[i].inputs, by_leaf[i].outputs
            of_inputs = f"diagonal {inputs}" if by_leaf[i].type.table else f"{inputs} x {inputs}"
            curvature = f"Kronecker, {of_inputs} and {outputs} x {outputs}"
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        lines.append((name, str(leaf.shape), curvature))
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    return "\n".join(
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {curvature}"
        for name, shape, curvature in lines
    )
