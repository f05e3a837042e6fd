"""Results of an experiment: arrays behind its figures, claims and their verdicts, results.json."""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

import shohypernet as shn


def claim(claim: str, measured: str, *, holds: bool | None) -> dict[str, Any]:
    """A claim of the paper or of ours, what was measured, and whether it holds.

    Args:
      claim: a sentence.
      measured: the numbers.
      holds: the verdict; None where the sizes are too small for one.
    """
    return {"claim": claim, "measured": measured, "holds": None if holds is None else bool(holds)}


def unjudged(claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same claims without verdicts, for runs too small to have any."""
    return [{**each, "holds": None} for each in claims]


def save_arrays(workdir: pathlib.Path, name: str, arrays: dict[str, Any]) -> None:
    """Write the arrays behind a figure as NAME.npz."""
    np.savez(workdir / f"{name}.npz", allow_pickle=False, **jax.tree.map(np.asarray, arrays))


def history_arrays(label: str, history: shn.History) -> dict[str, Any]:
    """The fields of a run's history but for λ, which may be large, as `LABEL: FIELD`."""
    fields = history._asdict()
    for name in ("hyperparams", "unconstrained", "hyperparams_step", "metrics"):
        del fields[name]
    return {f"{label}: {field}": value for field, value in fields.items()}


def listed(tree: Any) -> Any:
    """A tree of arrays as lists, which JSON can hold."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), tree)


def mean_and_range(values: np.ndarray, digits: int) -> str:
    """Such as "0.169 (0.159 to 0.177)"."""
    mean, low, high = (f"{each:.{digits}f}" for each in (values.mean(), values.min(), values.max()))
    return f"{mean} ({low} to {high})"


def write(workdir: pathlib.Path, results: dict[str, Any]) -> None:
    """Write results.json, whole or not at all: what has one is finished."""
    half = workdir / "results.json.part"
    half.write_text(json.dumps(results, indent=2) + "\n")
    half.replace(workdir / "results.json")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in plain text, its first column to the left and all others to the right."""
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
