"""Types of layer whose weights act as one matrix, s = W a, and where they stand in a Flax model.

A type says what a is. For a convolution it is the patch of the inputs below each output (Grosse and
Martens 2016, arXiv:1602.01407), for an embedding the one-hot vector of a row's number. A one is
appended to a for the bias. Weights of any other module have no matrix, and only a diagonal
curvature.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from shohypernet import problem as problems
from shohypernet.problem import Problem
from shohypernet.types import Params


class LayerType(NamedTuple):
    """How a type of Flax module acts as a matrix on its inputs.

    Attributes:
      rows: `rows(module, inputs) -> a`, shape (..., inputs) with an a for each row of outputs; or,
        for a `table`, the whole numbers of the rows that are picked, shape (...).
      weights: name of its array of weights, whose last axes are the outputs.
      bias: name of its bias.
      features: `features(module)`: how many axes of the outputs, from the last on, are one s.
      supports: `supports(module)`: whether it acts so with these settings.
      table: whether a is one-hot, so that E[a aᵀ] is diagonal.
    """

    rows: Callable[[Any, jax.Array], jax.Array]
    weights: str = "kernel"
    bias: str = "bias"
    features: Callable[[Any], int] = lambda module: 1
    supports: Callable[[Any], bool] = lambda module: True
    table: bool = False


class Layer(NamedTuple):
    """A layer of a model, whose weights are a matrix (inputs, outputs), bias last.

    Attributes:
      path: the names from the model to the layer, as Flax has them.
      type: its type.
      kernel: which leaf of the flattened weights is its kernel.
      bias: which is its bias, or None.
      inputs: length of a, the one for the bias included.
      outputs: length of s.
      dtype: of its factors, float32 at least.
    """

    path: tuple[str, ...]
    type: LayerType
    kernel: int
    bias: int | None
    inputs: int
    outputs: int
    dtype: Any = jnp.float32

    @property
    def name(self) -> str:
        """The path as text."""
        return "/".join(self.path) or "model"


# --- the types ----------------------------------------------------------------------------------


def _contracted(module: nn.DenseGeneral, inputs: jax.Array) -> jax.Array:
    axes = _tuple(module.axis)
    return inputs.reshape(*inputs.shape[: inputs.ndim - len(axes)], -1)


def _contracts_last_axes(module: nn.DenseGeneral) -> bool:
    axes = _tuple(module.axis)
    return not module.batch_dims and axes == tuple(range(-len(axes), 0))


def _patches(module: nn.Conv, inputs: jax.Array) -> jax.Array:
    # The same convolution with an identity for its kernel: whatever its strides and padding, what
    # comes out is what a kernel would have been multiplied by.
    axes = _tuple(module.kernel_size)
    size = math.prod(axes) * inputs.shape[-1]
    kernel = jnp.eye(size, dtype=inputs.dtype).reshape(*axes, inputs.shape[-1], size)
    copied = module.clone(parent=None, name=None, features=size, use_bias=False)
    rows: Any = copied.apply({"params": {"kernel": kernel}}, inputs)
    return rows


def _is_ungrouped(module: nn.Conv) -> bool:
    return module.feature_group_count == 1 and module.mask is None


def _tuple(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


TYPES: dict[type[nn.Module], LayerType] = {
    nn.Dense: LayerType(lambda module, inputs: inputs),
    nn.DenseGeneral: LayerType(
        _contracted,
        features=lambda module: len(_tuple(module.features)),
        supports=_contracts_last_axes,
    ),
    nn.Conv: LayerType(_patches, supports=_is_ungrouped),
    nn.Embed: LayerType(lambda module, inputs: inputs, weights="embedding", table=True),
}


# --- a model's layers ---------------------------------------------------------------------------


def layers_of(
    problem: Problem,
    params: Params | None = None,
    types: Mapping[type[nn.Module], LayerType] | None = None,
) -> tuple[Layer, ...]:
    """The layers of known types that `problem.init` makes.

    A layer counts if just one array in the tree of weights has its path, or a path that ends so.

    Args:
      problem: a problem, whose `init` calls Flax Linen modules.
      params: the weights or their shapes; those of `problem.init` if None.
      types: types of layer by their class, besides `TYPES`.

    Raises:
      ValueError: if `problem.init` calls no Flax Linen module.
    """
    called = _called(problem, types or {})
    if not called:
        raise ValueError(
            "curvature factors are read off Flax Linen modules, but problem.init calls none. Write "
            "the model as a flax.linen.Module, or use jacobians.linearized()."
        )
    params = problems.param_shapes(problem) if params is None else params
    leaves = [(tuple(map(_name, path)), leaf) for path, leaf in jax.tree.leaves_with_path(params)]

    def ending(path: tuple[str, ...]) -> list[int]:
        return [i for i, (names, _) in enumerate(leaves) if names[-len(path) :] == path]

    found = []
    for path, known in called.items():
        if known is None:
            continue
        kind, features = known
        kernels, biases = ending((*path, kind.weights)), ending((*path, kind.bias))
        if len(kernels) != 1 or len(biases) > 1:
            continue
        kernel = leaves[kernels[0]][1]
        outputs = math.prod(kernel.shape[kernel.ndim - features :])
        inputs = math.prod(kernel.shape) // outputs + len(biases)
        bias = biases[0] if biases else None
        dtype = jnp.promote_types(kernel.dtype, jnp.float32)
        found.append(Layer(path, kind, kernels[0], bias, inputs, outputs, dtype))
    return tuple(found)


def _called(
    problem: Problem, types: Mapping[type[nn.Module], LayerType]
) -> dict[tuple[str, ...], tuple[LayerType, int] | None]:
    """The modules whose `__call__` a problem's `init` calls, and no other method, by path.

    Each by its type and its number of features' axes, for a module holds arrays of the trace; None
    for one of another type.
    """
    called: dict[tuple[str, ...], tuple[LayerType, int] | None] = {}
    otherwise = set()

    def known(module: nn.Module) -> tuple[LayerType, int] | None:
        kind = _type(module, types)
        return (kind, kind.features(module)) if kind and kind.supports(module) else None

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__":
            called.setdefault(context.module.path, known(context.module))
        elif context.method_name != "setup":
            otherwise.add(context.module.path)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        # A function of its own, for JAX remembers what it traced before.
        jax.eval_shape(lambda key: problem.init(key), jax.random.key(0))
    return {path: each for path, each in called.items() if path not in otherwise}


def _type(module: nn.Module, types: Mapping[type[nn.Module], LayerType]) -> LayerType | None:
    """That of the class of a module that is known best, those of the user first."""
    for known in (types, TYPES):
        for kind in type(module).__mro__:
            if kind in known:
                return known[kind]
    return None


def _name(entry: Any) -> str:
    return jax.tree_util.keystr((entry,), simple=True)


Watch = Callable[[int, nn.Module, jax.Array, jax.Array], jax.Array]


@contextlib.contextmanager
def watched(layers: Sequence[Layer], watch: Watch) -> Iterator[None]:
    """Within it, a layer returns what `watch(number, module, inputs, outputs)` makes of it.

    Modules that `watch` itself calls are left alone.
    """
    numbers = {layer.path: i for i, layer in enumerate(layers)}
    watching = False

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal watching
        made = call(*args, **kwargs)
        number = numbers.get(context.module.path)
        if watching or number is None or context.method_name != "__call__":
            return made
        (inputs,) = *args, *kwargs.values()
        watching = True
        try:
            return watch(number, context.module, inputs, made)
        finally:
            watching = False

    with nn.intercept_methods(intercept):
        yield


# --- weights as blocks --------------------------------------------------------------------------


def split(layers: tuple[Layer, ...], tree: Params) -> list[jax.Array]:
    """A tree like the weights as blocks: a matrix a layer, its bias last, then the other arrays."""
    leaves = jax.tree.leaves(tree)
    matrices = []
    for layer in layers:
        matrix = leaves[layer.kernel].reshape(-1, layer.outputs)
        if layer.bias is not None:
            matrix = jnp.concatenate([matrix, leaves[layer.bias].reshape(1, -1)])
        matrices.append(matrix)
    return [*matrices, *(leaves[i] for i in rest(layers, tree))]


def join(layers: tuple[Layer, ...], blocks: list[jax.Array], like: Any) -> Any:
    """The inverse of `split`, in the shapes and dtypes of `like`."""
    leaves, treedef = jax.tree.flatten(like)
    made: list[Any] = list(leaves)
    for layer, matrix in zip(layers, blocks, strict=False):
        if layer.bias is not None:
            matrix, made[layer.bias] = matrix[:-1], matrix[-1]
        made[layer.kernel] = matrix
    for i, array in zip(rest(layers, like), blocks[len(layers) :], strict=True):
        made[i] = array
    typed = [
        block.reshape(leaf.shape).astype(leaf.dtype)
        for block, leaf in zip(made, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, typed)


def rest(layers: tuple[Layer, ...], tree: Any) -> list[int]:
    """Which leaves of a tree like the weights are in no layer."""
    inside = {i for layer in layers for i in (layer.kernel, layer.bias)}
    return [i for i, _ in enumerate(jax.tree.leaves(tree)) if i not in inside]
