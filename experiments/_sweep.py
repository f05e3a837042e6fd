"""Sweeps of an experiment over fields of its config, one run after another.

--sweep=config.FIELD=VALUE,VALUE,... makes a run for each value, and several of them one for each
point of their product, each in a folder of its own below the work folder. To resume is to run the
points that have no results yet.
"""

import itertools
import json
import operator
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from experiments import _configs, _folders, _results


class Point(NamedTuple):
    """A point of a sweep.

    Attributes:
      overrides: --config.FIELD=VALUE of the swept fields.
      config: with these values.
      values: of the swept fields, by name.
    """

    overrides: Sequence[str]
    config: ConfigDict
    values: Mapping[str, Any]


class RunAt(Protocol):
    """One run, at a point and in a folder; it exits with a message where it fails."""

    def __call__(self, point: Point, folder: pathlib.Path, *, resume: bool) -> None: ...


def points(named: str, overrides: Sequence[str], sweeps: Sequence[str]) -> dict[str, Point]:
    """The points of a sweep by the names of their folders; exits with a message if one is wrong.

    Args:
      named: what follows --config=.
      overrides: --config.FIELD=VALUE, for all points.
      sweeps: config.FIELD=VALUE,VALUE,... of each swept field; commas within brackets part nothing.
    """
    axes = {}
    for sweep in sweeps:
        field, _, values = sweep.partition("=")
        if not (field.startswith("config.") and values) or field in axes:
            sys.exit(
                f"--sweep={sweep}: should be like --sweep=config.FIELD=VALUE,VALUE, a field once."
            )
        axes[field] = re.split(r",(?![^(]*\))", values)
    found: dict[str, Point] = {}
    for chosen in itertools.product(*axes.values()):
        new = [f"--{field}={value}" for field, value in zip(axes, chosen, strict=True)]
        config = _configs.read(named, [*overrides, *new])
        fields = [field.removeprefix("config.") for field in axes]
        values = {field: operator.attrgetter(field)(config) for field in fields}
        name = ",".join(f"{field}={_plain(value)}" for field, value in values.items())
        if name in found:
            sys.exit(f"--sweep: two of its points would share the folder {name!r}.")
        found[name] = Point(new, config, values)
    return found


def run(points: Mapping[str, Point], at: RunAt, workdir: pathlib.Path, *, resume: bool) -> None:
    """Run every point that has no results yet, and print a table of all.

    A point that fails leaves its message, and the next one is run.
    """
    started = [name for name in points if (workdir / name / "config.json").exists()]
    if not resume:
        _folders.require_empty(workdir)
    elif not started:
        raise FileNotFoundError(
            f"{workdir} holds no point of this sweep to resume; start it without --resume."
        )
    for name in started:
        _folders.require_same(workdir / name, points[name].config)
    failed = {}
    for number, (name, point) in enumerate(points.items(), 1):
        if _results_of(workdir / name) is not None:
            continue
        print(f"\n[{number} of {len(points)}] {name}")
        try:
            at(point, workdir / name, resume=name in started)
        except SystemExit as stopped:
            if not isinstance(stopped.code, str):
                raise  # interrupted
            failed[name] = stopped.code
            print(stopped.code)
    print(f"\n{table(points, workdir)}")
    if failed:
        sys.exit(f"{', '.join(failed)} failed; with --resume they are run again.")


def table(points: Mapping[str, Point], workdir: pathlib.Path) -> str:
    """Main numbers of each point (means of those that are lists), claims that hold, seconds."""
    found = {name: _results_of(workdir / name) or {} for name in points}
    main = dict.fromkeys(key for results in found.values() for key in results.get("main", {}))
    fields = next(iter(points.values())).values
    rows = []
    for name, results in found.items():
        numbers = results.get("main", {})
        rows.append(
            [
                *map(str, points[name].values.values()),
                *(f"{np.mean(numbers[key]):.4g}" if key in numbers else "-" for key in main),
                _held(results.get("claims", [])),
                f"{results['wall_seconds']:.0f}" if results else "-",
            ]
        )
    return _results.table([*fields, *main, "claims", "seconds"], rows)


def _held(claims: Sequence[dict[str, Any]]) -> str:
    """Such as "2 of 3", of the claims that have a verdict."""
    verdicts = [each["holds"] for each in claims if each["holds"] is not None]
    return f"{sum(verdicts)} of {len(verdicts)}" if verdicts else "-"


def _results_of(folder: pathlib.Path) -> dict[str, Any] | None:
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def _plain(value: Any) -> str:
    """A value as a part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_")
