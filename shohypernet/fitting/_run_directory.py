"""Files of a run: its identity, its log and its checkpoints.

    run.json        identity of the run, and the versions that it is computed with; a resumed run
                    must agree with all of it
    metrics.jsonl   one line for each evaluation
    checkpoints/    state and history by step, written whole or not at all (Orbax)
    .lock           locked, where the system can, while a process runs here

Nothing here is ever overwritten: a folder that holds a run is only opened again to resume that run.
A checkpoint lies beside the SHA-256 of its files, since Orbax reads changed bytes without error;
a damaged one is put aside, and the run resumes from the newest that is whole.

A run continues bit for bit only with the same versions, so others are refused. To continue with
numbers that differ, put the new versions into run.json.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import IO, Any

import jax
import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows, where two processes must be kept apart by hand
    fcntl = None

KEPT_CHECKPOINTS = 3
FORMAT = 1  # of this folder; raised when a newer library can't continue the runs of an older one
COMPUTED_WITH = "shohypernet", "jax", "jaxlib", "optax"


def holds_run(path: str | os.PathLike) -> bool:
    """Whether a folder holds a run to resume."""
    return (_absolute(path) / "run.json").exists()


def read_identity(path: str | os.PathLike) -> dict[str, Any]:
    """The identity of the run that a folder holds.

    Raises:
      FileNotFoundError: if the folder holds no run.
      ValueError: if run.json is damaged.
    """
    described = _absolute(path) / "run.json"
    if not described.exists():
        raise FileNotFoundError(f"{described.parent} holds no run to resume (no run.json).")
    try:
        identity = json.loads(described.read_text())
    except ValueError as error:
        raise ValueError(f"{described} is damaged: {error}") from error
    if not isinstance(identity, dict):
        raise ValueError(f"{described} is damaged: it holds {identity!r}, not a description.")
    return identity


class RunDirectory:
    """Folder of a run, for this process alone until it is closed.

    Args:
      path: the folder, made when missing.
      identity: what must be the same for a resumed run to be the same run, as JSON can hold it.
      resume: whether to continue the run that the folder holds.

    Attributes:
      path: the folder, absolute.
      latest_step: step of the newest whole checkpoint, None if there is none.

    Raises:
      FileExistsError: if the folder holds a run and resume is false.
      FileNotFoundError: if it holds none and resume is true.
      BlockingIOError: if another process runs there.
      OSError: if it can't be written to.
      ValueError: if it holds another run, or one of other versions (every difference is named), or
        only damaged checkpoints.
    """

    def __init__(
        self, path: str | os.PathLike, identity: Mapping[str, Any], *, resume: bool
    ) -> None:
        """Claim the folder; nothing of the run is written before `begin`."""
        self.path = _absolute(path)
        described = {"format": FORMAT, "versions": _versions(), **identity}
        self._identity = json.dumps(described, indent=2, default=_plain)
        self._checkpoints = self.path / "checkpoints"
        if resume:
            _require_same(read_identity(self.path), json.loads(self._identity), self.path)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_lock(self.path))
            if not resume and any(map(os.path.exists, self._files())):
                raise FileExistsError(
                    f"{self.path} already holds a run. Pass resume=True (--resume) to "
                    "continue it, or choose another folder; nothing was changed."
                )
            self.latest_step = self._newest_whole()
            self._held = stack.pop_all()

    def close(self) -> None:
        """Release the folder to other processes."""
        self._held.close()

    def begin(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write run.json if there is none, and the log of the evaluations so far."""
        described, log, _ = self._files()
        if not described.exists():
            _write_whole(described, self._identity + "\n")
        _write_whole(log, "".join(map(_line, records)))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(_line(record))

    def save(self, step: int, tree: Any) -> None:
        """Write a checkpoint, then delete the oldest ones beyond KEPT_CHECKPOINTS.

        Raises:
          OSError: if it can't be written; those before it are kept.
        """
        draft = self._checkpoints / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            with _checkpointer() as checkpointer:
                checkpointer.save(draft / "tree", tree)
            (draft / "sha256").write_text(_digest(draft / "tree"))
            draft.rename(self._checkpoints / f"{step}")
        except Exception as error:  # Orbax reports a full disk by a ValueError
            raise OSError(
                f"the checkpoint of step {step} can't be written in {self._checkpoints}, so the "
                f"last is that of step {self.latest_step}. {error}"
            ) from error
        self.latest_step = step
        for old in self._steps()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(self._checkpoints / f"{old}")

    def restore(self, like: Any) -> Any:
        """The newest whole checkpoint, as NumPy arrays of the shapes and dtypes of `like`."""
        folder = self._checkpoints / f"{self.latest_step}" / "tree"
        with _checkpointer() as checkpointer:
            return checkpointer.restore(
                folder, jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
            )

    def _files(self) -> tuple[pathlib.Path, ...]:
        return self.path / "run.json", self.path / "metrics.jsonl", self._checkpoints

    def _steps(self) -> list[int]:
        """The checkpoints' steps, oldest first."""
        return sorted(int(p.name) for p in self._checkpoints.glob("*") if p.name.isdecimal())

    def _newest_whole(self) -> int | None:
        damaged = []
        for step in reversed(self._steps()):
            if _is_whole(self._checkpoints / f"{step}"):
                break
            damaged.append(step)
        else:
            if damaged:
                raise ValueError(f"every checkpoint in {self._checkpoints} is damaged: {damaged}.")
            return None
        for bad in damaged:
            aside = self._checkpoints / f"{bad}.damaged-{time.time_ns()}"
            (self._checkpoints / f"{bad}").rename(aside)
            warnings.warn(
                f"the checkpoint of step {bad} is damaged and was put aside as {aside}; the run "
                f"resumes from step {step}.",
                RuntimeWarning,
                stacklevel=4,  # who called fit
            )
        return step


def _absolute(path: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(path).expanduser().absolute()


def _checkpointer() -> Any:
    # Orbax is slow to import, and most uses of the library never save.
    import orbax.checkpoint as ocp

    # Otherwise it waits for the other processes of jax.distributed, which write nothing.
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _is_whole(checkpoint: pathlib.Path) -> bool:
    try:
        return (checkpoint / "sha256").read_text() == _digest(checkpoint / "tree")
    except (OSError, ValueError):
        return False


def _digest(folder: pathlib.Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _lock(folder: pathlib.Path) -> IO[str]:
    """An open file that no other process can lock before this one closes it or ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        why = f"a run's folder must be writable, but {folder} is not; choose another. {error}"
        raise NotADirectoryError(why) if folder.is_file() else OSError(error.errno, why) from error
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise BlockingIOError(
            f"another process runs in {folder}; wait for it, or choose another folder."
        ) from None
    except OSError:  # a file system without locks
        pass
    return file


def _require_same(there: Mapping[str, Any], here: Mapping[str, Any], path: pathlib.Path) -> None:
    there, here = _flat(there), _flat(here)
    changed = [
        f"{name}: was {there.get(name, 'absent')!r}, is {here.get(name, 'absent')!r}"
        for name in sorted(there.keys() | here.keys())
        if name not in there or name not in here or there[name] != here[name]
    ]
    if changed:
        raise ValueError(
            f"{path} holds another run, which can't be resumed with these settings:\n  "
            + "\n  ".join(changed)
            + "\nRestore them, or choose another folder."
        )


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda below: not isinstance(below, dict))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in COMPUTED_WITH:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # used from its source, without being installed
            versions[name] = None
    return versions


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"a run's config must be as JSON can hold it, but has the {type(value)} {value}."
    )


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _write_whole(path: pathlib.Path, text: str) -> None:
    # A crash leaves either the old file or the new one, never half of one.
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)
