"""Folders of the experiments: a new one for each run, or the one of a run that goes on."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict


@contextlib.contextmanager
def claimed(folder: pathlib.Path, config: ConfigDict, *, resume: bool) -> Iterator[None]:
    """Start a folder, or open it again to resume; remove one to which nothing was added."""
    if resume:
        require_same(folder, config)
        yield
        return
    require_empty(folder)
    described = folder / "config.json"
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with described.open("x") as file:
        file.write(_text(config))
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if list(folder.iterdir()) == [described]:
                described.unlink()
                for path in made:
                    path.rmdir()
        raise


def require_empty(folder: pathlib.Path) -> None:
    """Refuse a folder that holds anything."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} isn't empty, and wasn't changed. Choose a new --workdir, or give --resume "
            "if it holds this experiment."
        )


def require_same(folder: pathlib.Path, config: ConfigDict) -> None:
    """Refuse a folder that holds no experiment, or one with another config."""
    described = folder / "config.json"
    if not described.exists():
        raise FileNotFoundError(
            f"{folder} holds no experiment to resume (no config.json); start one without --resume."
        )
    try:
        there: dict[str, Any] = json.loads(described.read_text())
    except ValueError as error:
        raise ValueError(f"{described} is damaged: {error}") from error
    here = json.loads(_text(config))
    changed = [
        f"\n  {name}: was {there.get(name, 'absent')!r}, is {here.get(name, 'absent')!r}"
        for name in sorted(there.keys() | here.keys())
        if name not in there or name not in here or there[name] != here[name]
    ]
    if changed:
        raise ValueError(
            f"{folder} was started with another config, and wasn't changed. What differs:"
            + "".join(changed)
        )


def _text(config: ConfigDict) -> str:
    return json.dumps(config.to_dict(), indent=2) + "\n"
