"""The command line of every experiment: what it passes on, refuses and leaves behind."""

import json
import operator
import pathlib
import shlex
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from experiments import _launch

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
from ml_collections import ConfigDict

def get_config(size="small"):
    steps = {"small": 3, "large": 9}[size]
    return ConfigDict({"steps": steps, "rate": 0.1, "seeds": (0, 1), "scales": (0.1, 0.3)})
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


class Experiment:
    """Notes how it was called, writes a picture, and makes two claims."""

    def __init__(self):
        self.calls = []

    def __call__(self, config, workdir, *, resume=False):
        self.calls.append((config.to_dict(), resume))
        (workdir / "picture.png").write_text("drawn")
        claims = [
            {"claim": "One.", "measured": "1.0", "holds": True},
            {"claim": "Two.", "measured": "2.5", "holds": False},
        ]
        return {"claims": claims, "seconds": 0.5}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(run, *arguments):
    with pytest.raises(SystemExit) as stopped:
        _launch.main(run, list(map(str, arguments)))
    assert isinstance(stopped.value.code, str)  # which Python prints, and exits with 1
    return stopped.value.code


def test_runs_and_writes_down(config, tmp_path, capsys):
    run, folder = Experiment(), tmp_path / "runs" / "new"
    overrides = ["--config.steps=7", "--config.seeds=(4, 5, 6)", "--config.scales=1"]
    _launch.main(run, [*overrides, f"--config={config}", "--workdir", str(folder)])
    expected = {"steps": 7, "rate": 0.1, "seeds": (4, 5, 6), "scales": (1,)}
    assert run.calls == [(expected, False)]
    assert set(contents(folder)) == {"config.json", "picture.png", "results.json"}
    described = json.loads((folder / "config.json").read_text())
    assert described == {"steps": 7, "rate": 0.1, "seeds": [4, 5, 6], "scales": [1]}
    results = json.loads((folder / "results.json").read_text())
    assert results["seconds"] == 0.5
    given = shlex.join([*overrides, f"--config={config}", "--workdir", str(folder)])
    assert results["command"] == f"python -m {Experiment.__module__} {given}"
    assert 0 <= results["wall_seconds"] < 60
    shown = capsys.readouterr().out
    assert (
        "\nholds          One.\n               1.0"
        "\nDOES NOT HOLD  Two.\n               2.5"
        "\n1 of 2 claims hold.\n"
    ) in shown
    assert str(folder) in shown


def test_variant_of_a_config(config, tmp_path):
    run = Experiment()
    _launch.main(run, [f"--config={config}:large", f"--workdir={tmp_path / 'new'}"])
    assert run.calls[0][0]["steps"] == 9


def test_a_config_too_small_to_judge_gets_no_verdicts(tmp_path, capsys):
    config, folder = tmp_path / "config.py", tmp_path / "new"
    config.write_text(CONFIG.replace('"rate": 0.1', '"rate": 0.1, "judged": size == "large"'))
    _launch.main(Experiment(), [f"--config={config}", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None, None]
    shown = capsys.readouterr().out
    assert shown.count("\nnot judged     ") == 2
    assert "\n2 claims not judged.\n" in shown
    folder = tmp_path / "large"
    _launch.main(Experiment(), [f"--config={config}:large", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [True, False]


def test_an_empty_folder_may_be_given(config, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    _launch.main(Experiment(), [f"--config={config}", f"--workdir={folder}"])
    assert (folder / "results.json").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.stepz=3", "no such field: 'stepz'"),
        ("--config.steps.more=3", "no such field"),
        ("--config.steps=3.5", "--config.steps=3.5: invalid literal for int"),
        ("--config.steps", "Missing value for flag --config.steps"),
        ("--config.rate=fast", "--config.rate=fast: could not convert"),
        ("--config.seeds=x", "--config.seeds should be like (0, 1), got ('x',)"),
        ("--config.seeds=(1.5,)", "--config.seeds should be like (0, 1), got (1.5,)"),
        ("--config.seeds=(1,", "--config.seeds=(1,: Error while parsing"),
        ("--steps=3", "Unknown command line flag 'steps'"),
        ("steps=3", "not understood: steps=3"),
    ],
)
def test_a_bad_override_is_refused_with_the_fields(config, tmp_path, override, message):
    run, folder = Experiment(), tmp_path / "new"
    said = refusal(run, f"--config={config}", f"--workdir={folder}", override)
    assert message in said.splitlines()[0]
    assert "\n  steps=3\n" in said
    assert "\n  seeds=(0, 1)\n" in said
    assert not run.calls
    assert not folder.exists()


def test_a_bad_config_is_refused(config, tmp_path):
    without = tmp_path / "without.py"
    without.write_text("")
    workdir = f"--workdir={tmp_path / 'new'}"
    for named, message in {
        f"{tmp_path}/nowhere.py": "there is no Python file",
        f"{tmp_path}": "there is no Python file",
        ROOT / "README.md": "there is no Python file",
        without: "has no get_config()",
        f"{config}:bogus": "KeyError: 'bogus'",
        ROOT / "configs" / "loss_manifold.py:mnist": "TypeError: get_config() takes 0",
    }.items():
        said = refusal(Experiment(), f"--config={named}", "--config.steps=3", workdir)
        assert message in said
        assert "\n" not in said
    assert not (tmp_path / "new").exists()


def test_what_is_needed(config, tmp_path, capsys):
    for arguments in (
        [],
        [f"--config={config}"],
        [f"--config={config}", "--workdir="],
        [f"--workdir={tmp_path / 'new'}"],
    ):
        assert "--config and --workdir are both needed.\nUsage" in refusal(Experiment(), *arguments)
    assert "Usage" in refusal(Experiment(), "--resume=perhaps")
    with pytest.raises(SystemExit) as stopped:
        _launch.main(Experiment(), ["--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("Usage")


def test_a_folder_in_use_is_refused_unchanged(config, tmp_path):
    folder, run = tmp_path / "used", Experiment()
    arguments = [f"--config={config}", f"--workdir={folder}"]
    _launch.main(run, arguments)
    before = contents(folder)
    assert "isn't empty" in refusal(run, *arguments)
    said = refusal(run, *arguments, "--resume", "--config.steps=4", "--config.rate=0.2")
    assert "started with another config" in said
    assert said.endswith("\n  rate: was 0.1, is 0.2\n  steps: was 3, is 4")
    assert contents(folder) == before
    assert len(run.calls) == 1

    _launch.main(run, [*arguments, "--resume"])
    assert [resume for _, resume in run.calls] == [False, True]
    (folder / "config.json").write_text("{")
    assert "config.json is damaged" in refusal(run, *arguments, "--resume")


def test_a_folder_of_other_things_is_refused_unchanged(config, tmp_path):
    said = refusal(Experiment(), f"--config={config}", f"--workdir={tmp_path}")
    assert "isn't empty" in said
    said = refusal(Experiment(), f"--config={config}", f"--workdir={tmp_path}", "--resume")
    assert "holds no experiment to resume" in said
    assert not (tmp_path / "config.json").exists()


def test_a_folder_that_cannot_be_made(config):
    said = refusal(Experiment(), f"--config={config}", f"--workdir={config}/new")
    assert "Not a directory" in said


def test_a_refused_value_is_one_line_and_leaves_no_folder(config, tmp_path):
    def run(config, workdir, *, resume=False):
        problem = shn.Problem(lambda key: 0.0, lambda *_: jnp.zeros(()), lambda *_: jnp.zeros(()))
        return shn.train(
            problem, optax.sgd(0.1), jax.random.key(0), 0.0, np.zeros((1, 1)), steps=config.steps
        )

    arguments = [f"--config={config}", f"--workdir={tmp_path / 'new' / 'inner'}"]
    said = refusal(run, *arguments, "--config.steps=0")
    assert said == "train() needs steps to be a whole number >= 1, got 0."
    assert not (tmp_path / "new").exists()


def test_a_config_of_another_experiment(config, tmp_path):
    said = refusal(
        lambda config, workdir, *, resume=False: config.width,
        f"--config={config}",
        f"--workdir={tmp_path / 'new'}",
    )
    assert said == "the config has no field 'width', which this experiment reads."
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (lambda: np.zeros(3).reshape(2, 2), ValueError),
        (lambda: jax.jit(lambda x: x.reshape(2, 2))(np.zeros(3)), TypeError),
        (lambda: operator.attrgetter("width")(jnp.zeros(3)), AttributeError),
        (lambda: jax.vmap(lambda x, y: x)(np.zeros(2), np.zeros(3)), ValueError),
    ],
)
def test_a_bug_keeps_its_traceback(config, tmp_path, bug, kind):
    with pytest.raises(kind):
        _launch.main(
            lambda config, workdir, *, resume=False: bug(),
            [f"--config={config}", f"--workdir={tmp_path / 'new'}"],
        )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (shn.Interrupted("saved", signal.SIGTERM), 143),
        (KeyboardInterrupt(), 130),
        (shn.NonFiniteLoss("NaN at step 3"), "NaN at step 3"),
        (PermissionError("not yours"), "not yours"),
    ],
)
def test_what_stops_a_run_midway_leaves_what_it_wrote(config, tmp_path, stop, code):
    def run(config, workdir, *, resume=False):
        (workdir / "checkpoint").write_text("half way")
        raise stop

    with pytest.raises(SystemExit) as stopped:
        _launch.main(run, [f"--config={config}", f"--workdir={tmp_path / 'new'}"])
    assert stopped.value.code == code
    assert set(contents(tmp_path / "new")) == {"config.json", "checkpoint"}


def test_from_a_shell(tmp_path):
    config = "--config=configs/loss_manifold.py"
    command = [sys.executable, "-m", "experiments.loss_manifold", config]
    command.append(f"--workdir={tmp_path / 'new'}")

    refused = subprocess.run(
        [*command, "--config.weight_high=0.5"], cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("weight_low and weight_high must reach beyond")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()

    small = ["--config.surface_points=5", "--config.curve_points=9"]
    done = subprocess.run(
        # Anything that libraries log, of fonts for instance, would be on standard error.
        [*command, *small],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "holds" in done.stdout
    results = json.loads((tmp_path / "new" / "results.json").read_text())
    assert results["command"] == shlex.join(["python", *command[1:], *small])
