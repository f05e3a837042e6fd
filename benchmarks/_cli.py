"""What the command lines of the benchmarks share."""

import argparse
import json
import pathlib
from typing import Any

from benchmarks import _machine


def parser(name: str, *, rounds: int) -> argparse.ArgumentParser:
    """A parser with `--output` and `--rounds`.

    Args:
      name: of the benchmark's module.
      rounds: default number of turns of each contender.
    """
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    made.add_argument("--output", type=pathlib.Path, help="a file for all results as JSON")
    made.add_argument(
        "--rounds", type=int, default=rounds, help=f"turns of each contender ({rounds})"
    )
    return made


def machine() -> dict[str, Any]:
    """Print the machine's description and return it."""
    described = _machine.describe()._asdict()
    print("  ".join(f"{name}: {value}" for name, value in described.items()))
    return described


def write(path: pathlib.Path | None, results: dict[str, Any]) -> None:
    """Write results as JSON, if there is a path."""
    if path:
        path.write_text(json.dumps(results, indent=2) + "\n")
        print(f"All results are in {path}.")
