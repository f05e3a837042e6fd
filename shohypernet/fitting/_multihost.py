"""Several processes in one run: all compute, and the first alone keeps files and shows progress.

Whatever the first does by itself is told to all, errors too, so that none is left waiting. The
folder of a run need be seen by the first process only.
"""

import builtins
import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from shohypernet._internal import sharding
from shohypernet.fitting._run_directory import RunDirectory


class Crew(NamedTuple):
    """Those who make a run. Each function is to be called in all processes at the same point.

    Attributes:
      leads: whether this process is the first.
      by_first: `by_first(action, *arguments)`: what an action returns or raises in the first
        process, which alone takes it.
      agreed: `agreed(signal_number)`: the number that any process has, the greatest of several.
      run_directory: `RunDirectory`, or what stands for it.
    """

    leads: bool
    by_first: Callable[..., Any]
    agreed: Callable[[int | None], int | None]
    run_directory: Callable[..., RunDirectory]


def crew(mesh: Mesh | None) -> Crew:
    """The processes whose devices are in the mesh: this one, or all."""
    if mesh is None or not mesh.is_multi_process:
        return Crew(
            leads=True,
            by_first=lambda action, *arguments: action(*arguments),
            agreed=lambda signal_number: signal_number,
            run_directory=RunDirectory,
        )
    return Crew(jax.process_index() == 0, by_first, agreed, SharedRunDirectory)


def by_first(action: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Takes an action in the first process, and returns or raises in all what it did there.

    What it returns must be such as JSON can hold. Of an error the others get the built-in class, or
    else a RuntimeError, with the message.
    """
    value, error, message = None, None, b""
    if jax.process_index() == 0:
        try:
            value = action(*arguments, **keywords)
        except Exception as caught:
            error = caught
        told = (type(error).__name__, str(error)) if error else None
        message = json.dumps([value, told]).encode()
    size = int(_from_first(np.array([len(message)]))[0])
    received = _from_first(np.frombuffer(message.ljust(size), np.uint8))
    if error is not None:
        raise error
    value, told = json.loads(received.tobytes())
    if told is not None:
        name, text = told
        raise getattr(builtins, name, RuntimeError)(text)
    return value


def agreed(signal_number: int | None) -> int | None:
    """The greatest of the processes' numbers, None if none has one."""
    numbers = multihost_utils.process_allgather(np.array(signal_number or 0))
    return int(np.max(numbers)) or None


class SharedRunDirectory(RunDirectory):
    """A `RunDirectory` that the first process holds, for all."""

    def __init__(
        self, path: str | os.PathLike, identity: Mapping[str, Any], *, resume: bool
    ) -> None:
        """Claims the folder in the first process."""
        self._held = contextlib.ExitStack()
        by_first(super().__init__, path, identity, resume=resume)
        path, self.latest_step = by_first(lambda: (str(self.path), self.latest_step))
        self.path = pathlib.Path(path)

    def begin(self, records: Iterable[Mapping[str, Any]]) -> None:
        """As in one process."""
        by_first(super().begin, records)

    def log(self, record: Mapping[str, Any]) -> None:
        """As in one process."""
        by_first(super().log, record)

    def save(self, step: int, tree: Any) -> None:
        """As in one process, which takes each array from all in turn.

        Raises:
          OSError: if it can't be written; those before it are kept.
          TypeError: for a state that holds random keys, which NumPy doesn't know.
        """
        if any(jnp.issubdtype(x.dtype, jax.dtypes.extended) for x in jax.tree.leaves(tree)):
            raise TypeError(
                "several processes can't save a state that holds random keys; let it hold their "
                "jax.random.key_data."
            )
        leads = jax.process_index() == 0

        def taken(leaf: Any) -> np.ndarray | None:
            here = sharding.whole(leaf)
            return np.asarray(here) if leads else None

        by_first(super().save, step, jax.tree.map(taken, tree))
        self.latest_step = step

    def restore(self, like: Any) -> Any:
        """As in one process, which gives each array to all in turn."""
        restore, restored = super().restore, []
        by_first(lambda: restored.extend(map(np.asarray, jax.tree.leaves(restore(like)))))
        leaves, structure = jax.tree.flatten(like)
        blank = (np.zeros(leaf.shape, leaf.dtype) for leaf in leaves)
        return jax.tree.unflatten(structure, map(_from_first, restored or blank))


def _from_first(array: np.ndarray) -> np.ndarray:
    """The first process's array, of this one's shape and dtype, bit for bit."""
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(array.tobytes(), np.uint8))
    return np.asarray(told).view(array.dtype).reshape(array.shape)
