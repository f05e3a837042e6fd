"""Command line of the experiments: config, folder, and errors in plain words."""

import contextlib
import io
import json
import linecache
import os
import pathlib
import shlex
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

import shohypernet as shn
from experiments import _results

USAGE = """Usage: python -m experiments.NAME --config=configs/NAME.py --workdir=NEW_FOLDER
       [--config.FIELD=VALUE ...] [--resume]
  --config        the experiment's config; some take a variant: configs/NAME.py:VARIANT
  --config.FIELD  another value for one of its fields; a wrong FIELD gets the list of them
  --workdir       a new or empty folder for what the experiment writes
  --resume        resume the run that workdir holds"""
COMPILED = pathlib.Path("~/.cache/shohypernet")  # unless JAX_COMPILATION_CACHE_DIR is set
OURS = ("__main__", "experiments", "shohypernet")


class Run(Protocol):
    """An experiment: it draws in a folder, and returns the contents of results.json."""

    def __call__(
        self, config: ConfigDict, workdir: pathlib.Path, *, resume: bool = False
    ) -> dict[str, Any]: ...


def main(run: Run, arguments: Sequence[str] | None = None) -> None:
    """Run an experiment with --config, --workdir and --resume.

    The folder gets config.json before the run and results.json after it: what the experiment
    returns, the command that made it, and its seconds on the wall (a resumed run's are those since
    it was resumed). One that isn't empty is refused unless --resume is given, and then it must have
    been started with the same config. A run that ends before it has written anything leaves no
    folder. Claims of a config whose field `judged` is false get no verdict.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # So that a second run of an experiment compiles nothing again.
        jax.config.update("jax_compilation_cache_dir", str(COMPILED.expanduser()))
    # Not by absl.app, which turns on the logs of all libraries and so drowns the progress.
    arguments = sys.argv[1:] if arguments is None else arguments
    config, folder, resume = _parse(arguments)
    began = time.perf_counter()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    with _in_plain_words(), _claimed(folder, config, resume=resume):
        results = run(config, folder, resume=resume)
    if not config.get("judged", True):
        results["claims"] = _results.unjudged(results["claims"])
    results["command"] = shlex.join(["python", "-m", _module(run), *arguments])
    results["wall_seconds"] = round(time.perf_counter() - began, 1)
    _results.write(folder, results)
    _results.show(results["claims"])
    print(f"Pictures, arrays and results.json are in {folder}.")


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


def _parse(arguments: Sequence[str]) -> tuple[ConfigDict, pathlib.Path, bool]:
    known = flags.FlagValues()
    named = flags.DEFINE_string("config", None, "", flag_values=known)
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=known)
    resume = flags.DEFINE_bool("resume", False, "", flag_values=known)
    wants_help = flags.DEFINE_bool("help", False, "", short_name="h", flag_values=known)
    try:
        _, *overrides = known(["", *arguments], known_only=True)
    except flags.Error as error:
        sys.exit(f"{error}\n{USAGE}")
    if wants_help.value:
        print(USAGE)
        sys.exit(0)
    if not (named.value and workdir.value):
        sys.exit(f"--config and --workdir are both needed.\n{USAGE}")
    config = _overridden(named.value, _default(named.value).to_dict(), overrides)
    return config, pathlib.Path(workdir.value).expanduser(), bool(resume.value)


def _default(named: str) -> ConfigDict:
    """The config of a file, or of a file and a variant named with :x."""
    path = named.partition(":")[0]
    if not (path.endswith(".py") and pathlib.Path(path).is_file()):
        sys.exit(f"--config={named}: there is no Python file {path!r}.")
    try:
        return _load(named, [])
    except AttributeError as error:
        if "'get_config'" not in str(error):
            raise
        sys.exit(f"--config={named}: {path} has no get_config().")
    except LookupError as error:
        sys.exit(f"--config={named}: {type(error).__name__}: {error}")
    except flags.Error as error:
        # A traceback, whose last line is the error that get_config() raised.
        sys.exit(f"--config={named}: {str(error).strip().splitlines()[-1]}")


def _overridden(named: str, defaults: dict[str, Any], overrides: Sequence[str]) -> ConfigDict:
    """The config with --config.FIELD=VALUE; a wrong one is answered with the list of fields."""
    try:
        config = _load(named, overrides)
        for name, default in defaults.items():
            # Of a tuple ml_collections checks no more than that it is one.
            if isinstance(default, tuple) and not _is_like(config[name], default):
                raise flags.Error(f"--config.{name} should be like {default}, got {config[name]}")
    except (AttributeError, LookupError, ValueError, flags.Error) as error:
        said = (
            str(error) if isinstance(error, flags.Error) else f"no such field: {_innermost(error)}"
        )
        fields = "".join(
            f"\n  --config.{name}={value!r}  ({type(value).__name__})"
            for name, value in defaults.items()
        )
        sys.exit(f"{said}\nThe fields of this config, with their values:{fields}")
    return config


def _load(named: str, overrides: Sequence[str]) -> ConfigDict:
    """A config file read by ml_collections, which passes on the part after a colon."""
    arguments = ["", f"--config={named}", *overrides]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    # It runs the file in a module of this name, on top of what an earlier file left there.
    sys.modules.pop("config_config", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the way in which it imports
        _, *stray = values(arguments)
    if stray:
        raise flags.Error(f"not understood: {' '.join(stray)}")
    return config.value


def _is_like(values: Any, defaults: tuple[Any, ...]) -> bool:
    kinds = {type(default) for default in defaults}
    kinds |= {int} if float in kinds else set()
    return not kinds or all(type(value) in kinds for value in values)


@contextlib.contextmanager
def _claimed(folder: pathlib.Path, config: ConfigDict, *, resume: bool) -> Iterator[None]:
    """Start a folder, or open it again to resume; remove one to which nothing was added."""
    described = folder / "config.json"
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    if resume:
        _require_same(described, json.loads(text))
        yield
        return
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} isn't empty, and wasn't changed. Choose a new --workdir, or give --resume "
            "if it holds this experiment."
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with described.open("x") as file:
        file.write(text)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if list(folder.iterdir()) == [described]:
                described.unlink()
                for path in made:
                    path.rmdir()
        raise


def _require_same(described: pathlib.Path, here: dict[str, Any]) -> None:
    if not described.exists():
        raise FileNotFoundError(
            f"{described.parent} holds no experiment to resume (no config.json); start one without "
            "--resume."
        )
    try:
        there = json.loads(described.read_text())
    except ValueError as error:
        raise ValueError(f"{described} is damaged: {error}") from error
    changed = [
        f"\n  {name}: was {there.get(name, 'absent')!r}, is {here.get(name, 'absent')!r}"
        for name in sorted(there.keys() | here.keys())
        if name not in there or name not in here or there[name] != here[name]
    ]
    if changed:
        raise ValueError(
            f"{described.parent} was started with another config, and wasn't changed. What differs:"
            + "".join(changed)
        )


def _plain(error: Exception) -> str | None:
    """The message of an error that was raised for the user; None for any other.

    A ValueError from a `raise` in this repository speaks of the config. Any other, from JAX say, is
    a bug, whose traceback is wanted.
    """
    *_, (frame, number) = traceback.walk_tb(error.__traceback__)
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    if isinstance(error, AttributeError):
        lacking = f"the config has no field {_innermost(error)}, which this experiment reads."
        return lacking if package == "ml_collections" else None
    line = linecache.getline(frame.f_code.co_filename, number).strip()
    return str(error) if package in OURS and line.startswith("raise ") else None


def _innermost(error: Exception) -> str:
    """The message of an error; ml_collections wraps one error in another without `from`."""
    inner = error.args[0] if error.args else ""
    return _innermost(inner) if isinstance(inner, Exception) else str(inner)
