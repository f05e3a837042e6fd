"""What `fit` was given: refused in plain words before anything is compiled or written."""

import numbers
import zlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet.data import Data
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem

LAST_SEED = 2**32 - 1  # of a larger one JAX takes 32 bits, and so another seed's numbers


def whole(name: str, size: Any) -> int:
    """A size, once it is known to be a whole number of 1 or more."""
    if not isinstance(size, numbers.Integral) or int(size) < 1:
        raise ValueError(f"fit() needs {name} to be a whole number >= 1, got {size!r}.")
    return int(size)


def whole_or_none(name: str, size: Any) -> int | None:
    """Likewise for a size that may be left open."""
    return None if size is None else whole(name, size)


def distinct(seeds: Iterable[int]) -> list[int]:
    """The seeds, once each is known to give numbers of its own."""
    seeds = list(seeds)
    apart = all(isinstance(seed, numbers.Integral) and 0 <= seed <= LAST_SEED for seed in seeds)
    if not seeds or not apart or len(set(seeds)) < len(seeds):
        raise ValueError(
            "fit() needs one seed or more, each once and a whole number from 0 to "
            f"{LAST_SEED}, got {seeds}."
        )
    return [int(seed) for seed in seeds]


def splits(data: Any) -> Data:
    """The three splits as device arrays, once each is known to hold examples."""
    if not isinstance(data, tuple | list) or len(data) != len(Data._fields):
        raise ValueError(f"fit() needs data in three splits, {Data._fields}, got {type(data)}.")
    for name, split in zip(Data._fields, data, strict=True):
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(split)]
        rows = {shape[:1] for shape in shapes}
        if len(rows) != 1 or rows <= {(), (0,)}:
            raise ValueError(
                f"the arrays of data.{name} need a leading axis in common, of one example or "
                f"more, but have shapes {shapes}."
            )
    return Data(*(jax.tree.map(jnp.asarray, split) for split in data))


def movable(hyperparams: Any) -> Any:
    """Hyperparameters as arrays, once they are known to be such as a gradient can move."""
    named = jax.tree.leaves_with_path(hyperparams)
    if not named:
        raise ValueError(f"fit() needs hyperparameters to start from, got {hyperparams}.")
    for path, leaf in named:
        if not _is_floating(leaf):
            raise ValueError(
                f"hyperparameter {jax.tree_util.keystr(path)} starts as {jnp.result_type(leaf)}, "
                "which a gradient can't move; start from floats."
            )
    return jax.tree.map(jnp.asarray, hyperparams)


def require_consistent(
    problem: Problem, method: HyperOptimizer, state: Any, train_batch: Any, valid_batch: Any
) -> None:
    """Refuses a method made for other weights than the problem's, and losses with no gradient."""
    key = jax.random.key(0)
    params = method.weights(state)
    made, needed = _shapes(params), _shapes(jax.eval_shape(problem.init, key))
    if made != needed:
        raise ValueError(
            "the method's weights are not like those of problem.init; was its hypernet made for "
            f"another model?\n  the method's: {made}\n  the problem's: {needed}"
        )
    losses = {
        "train_loss": problem.train_loss(params, state.hyperparams, train_batch, key),
        "valid_loss": problem.valid_loss(params, state.hyperparams, valid_batch),
    }
    for name, loss in losses.items():
        if jax.tree.map(jnp.shape, loss) != () or not _is_floating(loss):
            came = jax.tree.map(lambda leaf: str(jax.typeof(leaf)), loss)
            raise ValueError(f"problem.{name} must return a floating-point scalar, got {came}.")


def describe(tree: Any, *, contents: bool = False) -> dict[str, str]:
    """Each leaf's dtype and shape by its path and, if asked, a checksum of what it holds."""

    def described(leaf: Any) -> str:
        text = f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        if not contents:
            return text
        return f"{text} crc32 {zlib.crc32(np.asarray(jnp.asarray(leaf)).tobytes()):08x}"

    named = jax.tree.leaves_with_path(tree)
    return {keystr(path): described(leaf) for path, leaf in named}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {keystr(path): jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def _is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
