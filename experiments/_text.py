"""A text as whole numbers, in three splits."""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np


class Text(NamedTuple):
    """A text, each character by its place in `alphabet`; splits are int32 vectors."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    alphabet: str


def load(config: Any) -> Text:
    """The text that a config names: nine tenths, a twentieth and a twentieth, in this order."""
    written = _file(config.path) if config.data == "text" else _manual()
    written = written[: config.most_characters or None]
    alphabet = "".join(sorted(set(written)))
    numbers = {character: i for i, character in enumerate(alphabet)}
    coded = np.array([numbers[character] for character in written], np.int32)
    train, valid = int(0.9 * len(coded)), int(0.95 * len(coded))
    return Text(coded[:train], coded[train:valid], coded[valid:], alphabet)


def _manual() -> str:
    """Python's language reference, which comes with it."""
    from pydoc_data.topics import topics

    return "\n".join(topics.values())


def _file(named: str) -> str:
    named = named or os.environ.get("SHOHYPERNET_TEXT", "")
    path = pathlib.Path(named).expanduser()
    if not named or not path.is_file():
        raise FileNotFoundError(
            f"there is no text at {named!r}. Name a file by --config.path or by the environment "
            "variable SHOHYPERNET_TEXT, or leave out :text to take Python's language reference."
        )
    return path.read_text(encoding="utf-8")
