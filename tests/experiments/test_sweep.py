"""Sweeps: which points are run, where, and what is left alone when one goes on."""

import json
import signal

import pytest

import shohypernet as shn
from experiments import _launch

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"rate": 0.1, "name": "a", "inner": {"hidden": (5,)}})
"""
SWEEP = "--sweep=config.rate=0.1,0.30"


class Experiment:
    """Notes its calls; fails at one rate, as it is told."""

    def __init__(self, at=None, failure=None):
        self.calls, self.at, self.failure = [], at, failure

    def __call__(self, config, workdir, *, resume=False):
        self.calls.append((config.rate, config.name, config.inner.hidden, resume))
        (workdir / "checkpoint").write_text("half way")
        if config.rate == self.at:
            raise self.failure
        claims = [{"claim": "Less.", "measured": "2", "holds": config.rate > 0.2}]
        return {"main": {"loss": [config.rate, config.rate + 2], "best": 7}, "claims": claims}


@pytest.fixture
def arguments(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return [f"--config={path}", f"--workdir={tmp_path / 'new'}"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(run, *arguments):
    with pytest.raises(SystemExit) as stopped:
        _launch.main(run, list(arguments))
    return stopped.value.code


def test_every_point_of_the_product_is_run_in_a_folder_of_its_own(arguments, tmp_path, capsys):
    run = Experiment()
    hidden = "--sweep=config.inner.hidden=(5,),(6, 7)"
    _launch.main(run, [*arguments, SWEEP, "--config.name=b", hidden])
    assert run.calls == [
        (rate, "b", hidden, False) for rate in (0.1, 0.3) for hidden in ((5,), (6, 7))
    ]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {f"rate={rate},inner.hidden={h}" for rate in (0.1, 0.3) for h in ("5", "6_7")}
    folder = tmp_path / "new" / "rate=0.3,inner.hidden=6_7"
    assert json.loads((folder / "config.json").read_text())["inner"] == {"hidden": [6, 7]}
    # What made a point makes it again.
    made = json.loads((folder / "results.json").read_text())["command"]
    assert made.endswith(
        f"{arguments[0]} --config.name=b --config.rate=0.30 '--config.inner.hidden=(6, 7)' "
        f"--workdir={folder}"
    )
    table = capsys.readouterr().out.splitlines()[-5:]
    assert [line.split("  ")[0] for line in table] == ["rate", "0.1", "0.1", "0.3", "0.3"]
    assert table[0].split() == ["rate", "inner.hidden", "loss", "best", "claims", "seconds"]
    # The mean of 0.3 and 2.3.
    assert "  (6, 7)   1.3     7  1 of 1  " in table[4]
    assert "  (5,)   1.1     7  0 of 1  " in table[1]


def test_what_is_finished_is_not_run_again(arguments, tmp_path, capsys):
    stopped = Experiment(at=0.3, failure=shn.Interrupted("saved", signal.SIGTERM))
    assert refusal(stopped, *arguments, SWEEP) == 143
    before = contents(tmp_path / "new" / "rate=0.1")
    assert (tmp_path / "new" / "rate=0.3" / "checkpoint").exists()

    run = Experiment()
    assert "isn't empty" in refusal(run, *arguments, SWEEP)
    assert not run.calls
    _launch.main(run, [*arguments, SWEEP + ",0.5", "--resume"])
    assert [(rate, resume) for rate, *_, resume in run.calls] == [(0.3, True), (0.5, False)]
    assert contents(tmp_path / "new" / "rate=0.1") == before
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-3:]] == [
        "0.1",
        "0.3",
        "0.5",
    ]


def test_a_point_that_fails_leaves_the_others_to_be_run(arguments, capsys):
    run = Experiment(at=0.1, failure=shn.NonFiniteLoss("NaN at step 3"))
    said = refusal(run, *arguments, SWEEP)
    assert said == "rate=0.1 failed; with --resume they are run again."
    shown = capsys.readouterr().out
    assert "\nNaN at step 3\n" in shown
    assert [rate for rate, *_ in run.calls] == [0.1, 0.3]
    assert "\n0.1      -     -" in shown
    _launch.main(Experiment(), [*arguments, SWEEP, "--resume"])


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("rate=1", "should be like --sweep=config.FIELD=VALUE,VALUE"),
        ("config.rate", "should be like --sweep=config.FIELD=VALUE,VALUE"),
        ("config.rats=1,2", "no such field: 'rats'"),
        ("config.rate=1,fast", "--config.rate=fast: could not convert"),
        ("config.rate=1,1.0", "two of its points would share the folder 'rate=1.0'"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_is_run(arguments, tmp_path, sweep, message):
    run = Experiment()
    assert message in refusal(run, *arguments, f"--sweep={sweep}").splitlines()[0]
    assert not run.calls
    assert not (tmp_path / "new").exists()


def test_a_sweep_goes_on_only_where_it_began(arguments, tmp_path):
    run = Experiment()
    assert "holds no point of this sweep" in refusal(run, *arguments, SWEEP, "--resume")
    _launch.main(run, [*arguments, SWEEP])
    before = contents(tmp_path / "new")
    said = refusal(run, *arguments, SWEEP, "--resume", "--config.name=b")
    assert "rate=0.1 was started with another config" in said
    assert "holds no experiment to resume" in refusal(run, *arguments, "--resume")
    assert contents(tmp_path / "new") == before
    assert len(run.calls) == 2
