"""Starts an experiment from the command line: its config, its folder, its errors in plain words."""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from shohypernet.data import DataError
from shohypernet.fit import NonFiniteLoss
from shohypernet.interruption import Interrupted


class Run(Protocol):
    """An experiment: draws its pictures in a folder, and returns what results.json is to hold."""

    def __call__(
        self, config: ConfigDict, workdir: pathlib.Path, *, resume: bool = False
    ) -> dict[str, Any]: ...


def main(run: Run) -> None:
    """Runs an experiment with --config, --workdir and --resume.

    The folder gets config.json before the run and results.json after it. A folder that has one is
    refused unless --resume is given, and then it must have been started with the same config.
    """
    chosen = config_flags.DEFINE_config_file(
        "config", help_string="The experiment's config, configs/NAME.py.", lock_config=True
    )
    workdir = flags.DEFINE_string("workdir", None, "A new folder for what the experiment writes.")
    resume = flags.DEFINE_bool("resume", False, "Go on with the run that workdir holds.")
    flags.mark_flags_as_required(["config", "workdir"])

    def start(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            sys.exit(
                f"Not understood: {' '.join(arguments[1:])}. Flags look like --config.steps=9."
            )
        folder = pathlib.Path(str(workdir.value))
        try:
            _claim(folder, chosen.value, resume=resume.value)
            results = run(chosen.value, folder, resume=resume.value)
        except Interrupted as stopped:
            print(f"\n{stopped}", file=sys.stderr)
            sys.exit(128 + stopped.signal_number)
        except (DataError, NonFiniteLoss, OSError) as error:
            sys.exit(f"{type(error).__name__}: {error}")
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        for claim in results["claims"]:
            verdict = "holds" if claim["holds"] else "DOES NOT HOLD"
            print(f"{claim['claim']}\n  {verdict}: {claim['measured']}")
        print(f"Pictures, arrays and results.json are in {folder}.")

    app.run(start, flags_parser=lambda arguments: _parse(arguments, chosen))


def _parse(arguments: Sequence[str], chosen: flags.FlagHolder[ConfigDict]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        message = str(error).strip("\"'")
    # The override failed, but the file that it was for says what it could have been.
    flags.FLAGS.unparse_flags()
    named = [argument for argument in arguments[1:] if argument.startswith("--config=")]
    try:
        flags.FLAGS([arguments[0], *named, "--workdir=unused"])
        fields = "\n".join(
            f"  --config.{name}={value!r}  ({type(value).__name__})"
            for name, value in sorted(chosen.value.items())
        )
        sys.exit(f"Bad flag: {message}\nThe fields of this config, with their values:\n{fields}")
    except (flags.Error, OSError):
        sys.exit(
            f"Bad flag: {message}\nUsage: python -m experiments.NAME --config=configs/NAME.py "
            "--workdir=NEW_FOLDER [--config.FIELD=VALUE ...] [--resume]"
        )


def _claim(folder: pathlib.Path, config: ConfigDict, *, resume: bool) -> None:
    described = folder / "config.json"
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    if not described.exists():
        folder.mkdir(parents=True, exist_ok=True)
        described.write_text(text)
    elif not resume:
        raise FileExistsError(
            f"{folder} already holds an experiment. Choose a new --workdir, or give --resume to go "
            "on with it; nothing was changed."
        )
    elif described.read_text() != text:
        raise FileExistsError(f"{folder} was started with another config, see {described}.")
