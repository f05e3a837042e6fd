"""Command line of the experiments: config, folder, and errors in plain words."""

import contextlib
import io
import linecache
import pathlib
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from absl import flags
from ml_collections import ConfigDict

import shohypernet as shn
from experiments import _claims, _configs, _folders, _results, _sweep
from shohypernet._internal import compiled

USAGE = """Usage: python -m experiments.NAME --config=configs/NAME.py --workdir=NEW_FOLDER
       [--config.FIELD=VALUE ...] [--sweep=config.FIELD=VALUE,VALUE ...] [--resume]
  --config        the experiment's config; most take a variant: configs/NAME.py:quick
  --config.FIELD  another value for one of its fields; a tuple in quotes: '(1, 2)'
  --sweep         a run for each value, in folders below workdir; several make their product
  --workdir       a new or empty folder for what the experiment writes
  --resume        resume the run or the sweep that workdir holds
  --help          this, and the fields of --config"""
OURS = ("__main__", "experiments", "shohypernet")


class Given(NamedTuple):
    """A command line: --config with its overrides, --workdir, --resume, and each --sweep."""

    config: str
    overrides: Sequence[str]
    workdir: pathlib.Path
    resume: bool
    sweeps: Sequence[str]


class Run(Protocol):
    """An experiment: it draws in a folder, and returns the contents of results.json."""

    def __call__(
        self, config: ConfigDict, workdir: pathlib.Path, *, resume: bool = False
    ) -> dict[str, Any]: ...


def main(run: Run, arguments: Sequence[str] | None = None) -> None:
    """Run an experiment with --config, --workdir, --resume and --sweep.

    The folder gets config.json before the run and results.json after it: what the experiment
    returns, the command that made it, and its seconds on the wall (a resumed run's are those since
    it was resumed). One that isn't empty is refused unless --resume is given, and then it must have
    been started with the same config. A run that ends before it has written anything leaves no
    folder. Claims of a config whose field `judged` is false get no verdict. A sweep makes such a
    folder for each of its points.
    """
    compiled.keep()  # before anything of the experiment is
    # Not by absl.app, which turns on the logs of all libraries and so drowns the progress.
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    module = _module(run)
    given = _parse(arguments, module)
    if not given.sweeps:
        config = _configs.read(given.config, given.overrides)
        _run(run, config, given.workdir, [module, *arguments], resume=given.resume)
        return

    def at(point: _sweep.Point, folder: pathlib.Path, *, resume: bool) -> None:
        command = [module, f"--config={given.config}", *given.overrides, *point.overrides]
        _run(run, point.config, folder, [*command, f"--workdir={folder}"], resume=resume)

    with _in_plain_words():
        points = _sweep.points(given.config, given.overrides, given.sweeps)
        _sweep.run(points, at, given.workdir, resume=given.resume)


def _run(
    run: Run, config: ConfigDict, folder: pathlib.Path, command: Sequence[str], *, resume: bool
) -> None:
    """One run in a folder of its own: its results are written and its claims shown."""
    began = time.perf_counter()
    with _in_plain_words(), _folders.claimed(folder, config, resume=resume):
        results = run(config, folder, resume=resume)
    if not config.get("judged", True):
        results["claims"] = _results.unjudged(results["claims"])
    results["command"] = shlex.join(["python", "-m", *command])
    results["wall_seconds"] = round(time.perf_counter() - began, 1)
    _results.write(folder, results)
    print(f"\n{_claims.shown(results['claims'])}")
    print(f"\nPictures, arrays and results.json are in {folder}.")


@contextlib.contextmanager
def _in_plain_words() -> Iterator[None]:
    """Exit with a message, and no traceback, for what isn't a bug."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        number = stopped.signal_number if isinstance(stopped, shn.Interrupted) else signal.SIGINT
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        sys.exit(128 + number)
    except (shn.DataError, shn.NonFiniteLoss, OSError) as error:
        sys.exit(str(error))
    except (AttributeError, ValueError) as error:
        message = _plain(error)
        if message is None:
            raise
        sys.exit(message)


def _module(run: Run) -> str:
    """The experiment's module: the one that was started, if any was, else where `run` is from."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    started = spec.name if spec else ""
    return started if started.startswith("experiments.") else getattr(run, "__module__", "")


def _parse(arguments: Sequence[str], module: str) -> Given:
    known = flags.FlagValues()
    named = flags.DEFINE_string("config", None, "", flag_values=known)
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=known)
    resume = flags.DEFINE_bool("resume", False, "", flag_values=known)
    sweeps = flags.DEFINE_multi_string("sweep", [], "", flag_values=known)
    wants_help = flags.DEFINE_bool("help", False, "", short_name="h", flag_values=known)
    try:
        _, *overrides = known(["", *arguments], known_only=True)
    except flags.Error as error:
        sys.exit(f"{error}\n{USAGE}")
    if wants_help.value:
        print(_help(module, named.value, overrides))
        sys.exit(0)
    if not (named.value and workdir.value):
        sys.exit(f"--config and --workdir are both needed.\n{USAGE}")
    folder = pathlib.Path(workdir.value).expanduser()
    return Given(named.value, overrides, folder, bool(resume.value), sweeps.value)


def _help(module: str, named: str | None, overrides: Sequence[str]) -> str:
    """The usage, and the fields of the config that is given, or else of the experiment's own."""
    own = f"configs/{module.rpartition('.')[2]}.py"
    if named is None and not pathlib.Path(own).is_file():
        return USAGE
    named = named or own
    fields = _configs.listing(named, _configs.read(named, overrides))
    return f"{USAGE}\n\nFields of {named}:\n{fields}"


def _plain(error: Exception) -> str | None:
    """The message of an error that was raised for the user; None for any other.

    A ValueError from a `raise` in this repository speaks of the config. Any other, from JAX say, is
    a bug, whose traceback is wanted.
    """
    *_, (frame, number) = traceback.walk_tb(error.__traceback__)
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    if isinstance(error, AttributeError):
        lacking = (
            f"the config has no field {_configs.innermost(error)}, which this experiment reads."
        )
        return lacking if package == "ml_collections" else None
    line = linecache.getline(frame.f_code.co_filename, number).strip()
    return str(error) if package in OURS and line.startswith("raise ") else None
