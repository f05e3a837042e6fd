"""Configs of the command line: a file, a variant of it, other values for some of its fields."""

import operator
import pathlib
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import _config_comments

COLUMN = 34  # where comments begin


def read(named: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of FILE or FILE:VARIANT, with overrides; exits with a message if it has none.

    Args:
      named: what follows --config=.
      overrides: --config.FIELD=VALUE; a wrong one is answered with the list of fields.
    """
    path = named.partition(":")[0]
    if not (path.endswith(".py") and pathlib.Path(path).is_file()):
        sys.exit(f"--config={named}: there is no Python file {path!r}.")
    try:
        defaults = _load(named, [])
    except AttributeError as error:
        if "'get_config'" not in str(error):
            raise
        sys.exit(f"--config={named}: {path} has no get_config().")
    except LookupError as error:
        sys.exit(f"--config={named}: {type(error).__name__}: {error}")
    except flags.Error as error:
        # A traceback, whose last line is the error that get_config() raised.
        sys.exit(f"--config={named}: {str(error).strip().splitlines()[-1]}")
    return _overridden(named, defaults, overrides)


def listing(named: str, config: ConfigDict) -> str:
    """Fields of a config with their values, and the comments on them in its file."""
    comments = _config_comments.read(pathlib.Path(named.partition(":")[0]))
    values = dict(_flat(config.to_dict()))
    width = shutil.get_terminal_size().columns - 1
    lines = []
    # A field with fields of its own has no value here; what is said above it is said above them.
    for name in [*comments, *(values.keys() - comments.keys())]:
        above, beside = comments.get(name, ("", ""))
        lines += textwrap.wrap(above, width, initial_indent="  # ", subsequent_indent="  # ")
        if name in values:
            setting = f"  {name}={values[name]!r}"
            line = f"{setting:{COLUMN - 2}}  {beside}"
            lines += textwrap.wrap(line, width, subsequent_indent=" " * COLUMN)
    return "\n".join(lines)


def innermost(error: Exception) -> str:
    """The message of an error; ml_collections wraps one error in another without `from`."""
    inner = error.args[0] if error.args else ""
    return innermost(inner) if isinstance(inner, Exception) else str(inner)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each field that holds no others, under its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _overridden(named: str, defaults: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    try:
        config = _load(named, overrides)
        for name, default in _flat(defaults.to_dict()):
            value = operator.attrgetter(name)(config)
            # Of a tuple ml_collections checks no more than that it is one.
            if isinstance(default, tuple) and not _is_like(value, default):
                raise flags.Error(f"--config.{name} should be like {default}, got {value}")
    except (AttributeError, LookupError, ValueError, flags.Error) as error:
        known = isinstance(error, flags.Error)
        said = str(error) if known else f"no such field: {innermost(error)}"
        fields = listing(named, defaults)
        sys.exit(f"{said}\nThe fields of this config, for --config.FIELD=VALUE:\n{fields}")
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
