"""Several processes in one run: all compute; the first alone writes files and shows progress.

The outcome of what the first does by itself is broadcast to all, errors too, so that none is left
waiting. Only the first process needs access to the folder of a run.
"""

import builtins
import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from shohypernet._internal import sharding
from shohypernet.fitting._run_directory import RunDirectory


class ProcessGroup(NamedTuple):
    """The processes of a run. Each function is to be called in all of them at the same point.

    Attributes:
      is_first: whether this process is the first.
      by_first: `by_first(action, *arguments)`, the return value or error of an action that the
        first process alone takes.
      agreed: `agreed(signal_number)`, the greatest number of any process.
      run_directory: `RunDirectory`, or a stand-in for it.
    """

    is_first: bool
    by_first: Callable[..., Any]
    agreed: Callable[[int | None], int | None]
    run_directory: Callable[..., RunDirectory]


def process_group(mesh: Mesh | None) -> ProcessGroup:
    """The processes whose devices are in the mesh: this one, or all."""
    if mesh is None or not mesh.is_multi_process:
        return ProcessGroup(
            is_first=True,
            by_first=lambda action, *arguments: action(*arguments),
            agreed=lambda signal_number: signal_number,
            run_directory=RunDirectory,
        )
    return ProcessGroup(jax.process_index() == 0, by_first, agreed, SharedRunDirectory)


def by_first(action: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Take an action in the first process, and return or raise its outcome in all.

    The return value must be such as JSON can hold. An error reaches the others as its built-in
    class, or else a RuntimeError, with the message.
    """
    value, error, message = None, None, b""
    if jax.process_index() == 0:
        try:
            value = action(*arguments, **keywords)
        except Exception as caught:
            error = caught
        raised = (type(error).__name__, str(error)) if error else None
        message = json.dumps([value, raised]).encode()
    size = int(_from_first(np.array([len(message)]))[0])
    received = _from_first(np.frombuffer(message.ljust(size), np.uint8))
    if error is not None:
        raise error
    value, raised = json.loads(received.tobytes())
    if raised is not None:
        name, text = raised
        raise getattr(builtins, name, RuntimeError)(text)
    return value


def agreed(signal_number: int | None) -> int | None:
    """The greatest of the processes' numbers, None if none has one."""
    numbers = multihost_utils.process_allgather(np.array(signal_number or 0))
    return int(np.max(numbers)) or None


class SharedRunDirectory(RunDirectory):
    """`RunDirectory` held by the first process for all."""

    def __init__(
        self, path: str | os.PathLike, identity: Mapping[str, Any], *, resume: bool
    ) -> None:
        """Claim the folder in the first process."""
        self._held = contextlib.ExitStack()
        by_first(super().__init__, path, identity, resume=resume)
        path, self.latest_step = by_first(lambda: (str(self.path), self.latest_step))
        self.path = pathlib.Path(path)

    def begin(self, records: Iterable[Mapping[str, Any]]) -> None:
        """See `RunDirectory`."""
        by_first(super().begin, records)

    def log(self, record: Mapping[str, Any]) -> None:
        """See `RunDirectory`."""
        by_first(super().log, record)

    def save(self, step: int, tree: Any) -> None:
        """Write a checkpoint in the first process, which gathers one array after another.

        Raises:
          OSError: if it can't be written; those before it are kept.
        """
        is_first = jax.process_index() == 0

        def gathered(leaf: Any) -> np.ndarray | None:
            here = sharding.whole(leaf)
            return np.asarray(here) if is_first else None

        by_first(super().save, step, jax.tree.map(gathered, tree))
        self.latest_step = step

    def restore(self, like: Any) -> Any:
        """The newest whole checkpoint, broadcast one array after another."""
        restore, restored = super().restore, []
        by_first(lambda: restored.extend(map(np.asarray, jax.tree.leaves(restore(like)))))
        leaves, structure = jax.tree.flatten(like)
        blank = (np.zeros(leaf.shape, leaf.dtype) for leaf in leaves)
        return jax.tree.unflatten(structure, map(_from_first, restored or blank))


def _from_first(array: np.ndarray) -> np.ndarray:
    """The first process's array, of this one's shape and dtype, bit for bit."""
    received = multihost_utils.broadcast_one_to_all(np.frombuffer(array.tobytes(), np.uint8))
    return np.asarray(received).view(array.dtype).reshape(array.shape)
