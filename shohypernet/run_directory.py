"""What a run keeps on disk: who it is, its log and its checkpoints.

    run.json        what makes the run itself; a resumed run must agree with it
    metrics.jsonl   one line for each evaluation
    checkpoints/    state and history by step, written whole or not at all (Orbax)

Nothing here is ever overwritten: a folder that holds a run is only opened again to resume that run.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

KEPT_CHECKPOINTS = 3


class RunDirectory:
    """One run's folder.

    Args:
      path: the folder, made when missing.
      identity: what must be the same for a resumed run to be the same run, as JSON can hold it.
      resume: whether to go on with the run that the folder holds.

    Raises:
      FileExistsError: if the folder holds a run and resume is false.
      FileNotFoundError: if it holds none and resume is true.
      ValueError: if it holds another run; every difference is named.
    """

    def __init__(
        self, path: str | os.PathLike, identity: Mapping[str, Any], *, resume: bool
    ) -> None:
        """Claims the folder; nothing is written when it can't be claimed."""
        # Orbax is slow to import, and most uses of the library never save.
        import orbax.checkpoint as ocp

        self.path = pathlib.Path(path).absolute()
        described = self.path / "run.json"
        identity = json.loads(json.dumps(identity))
        if described.exists():
            if not resume:
                raise FileExistsError(
                    f"{self.path} already holds a run. Pass resume=True (--resume) to go on with "
                    "it, or choose another folder; nothing was changed."
                )
            _require_same(json.loads(described.read_text()), identity, self.path)
        else:
            if resume:
                raise FileNotFoundError(f"{self.path} holds no run to resume (no run.json).")
            self.path.mkdir(parents=True, exist_ok=True)
            _write_whole(described, json.dumps(identity, indent=2) + "\n")
        self._arguments = ocp.args
        self._checkpoints = ocp.CheckpointManager(
            self.path / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                max_to_keep=KEPT_CHECKPOINTS, enable_async_checkpointing=False
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None if there is none."""
        return self._checkpoints.latest_step()

    def save(self, step: int, tree: Any) -> None:
        """Writes a checkpoint, unless that step has one."""
        if step != self.latest_step:
            self._checkpoints.save(step, args=self._arguments.StandardSave(tree))

    def restore(self, step: int, like: Any) -> Any:
        """The checkpoint of a step, as a tree of arrays like `like`.

        The log is cut back to that step, so that each evaluation stands in it once.
        """
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like
        )
        tree = self._checkpoints.restore(step, args=self._arguments.StandardRestore(like))
        log = self.path / "metrics.jsonl"
        if log.exists():
            lines = log.read_text().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            _write_whole(log, "".join(x for x in whole if json.loads(x)["step"] <= step))
        return tree

    def log(self, record: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Ends what the checkpoints still have under way."""
        self._checkpoints.close()


def _require_same(there: Mapping[str, Any], here: Mapping[str, Any], path: pathlib.Path) -> None:
    names = sorted(set(there) | set(here))
    changed = [
        f"{name}: was {there.get(name)!r}, is {here.get(name)!r}"
        for name in names
        if there.get(name) != here.get(name)
    ]
    if changed:
        raise ValueError(
            f"{path} holds another run, which can't be resumed with these settings:\n  "
            + "\n  ".join(changed)
            + "\nRestore them, or choose another folder."
        )


def _write_whole(path: pathlib.Path, text: str) -> None:
    # A crash leaves either the old file or the new one, never half of one.
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)
