"""What fell by more than a tenth is named, from numbers made by hand."""

import pytest

from benchmarks import _ratios as ratios
from benchmarks._ratios import Record

MACHINE = {"cpu": "Abacus 1", "cores": 2, "jax": "0.10.2"}
RECORDED = Record(MACHINE, {"small": 2.0, "large": 1.0, "deeper": 4.0}, 0.0)


def never(name):
    raise AssertionError(f"{name} was measured again")


def test_a_tenth_less_has_not_fallen_and_more_has():
    now = {"small": 1.81, "large": 0.89, "deeper": 5.0, "new": 0.1}
    assert ratios.fallen(now, RECORDED.ratios) == ["large"]


def test_what_did_not_fall_is_not_measured_again(capsys):
    here = Record(MACHINE, {"small": 1.9, "large": 1.3, "deeper": 3.68}, 1.5)
    assert ratios.compare(here, RECORDED, never) == []
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines()[1:4]] == [
        ["small", "2.00", "1.90", "-5%"],
        ["large", "1.00", "1.30", "+30%"],
        ["deeper", "4.00", "3.68", "-8%"],
    ]
    assert "0.0 cores were busy then, 1.5 now" in printed


def test_only_what_falls_twice_fell(capsys):
    here = Record(MACHINE, {"small": 1.0, "large": 1.0, "deeper": 2.0}, 0.0)
    second = {"small": 1.95, "deeper": 3.0}
    assert ratios.compare(here, RECORDED, second.pop) == ["deeper"]
    assert second == {}
    assert "Measured again: small, deeper." in capsys.readouterr().out


def test_another_machine_is_told_and_the_same_one_is_not(capsys):
    ratios.compare(RECORDED, RECORDED, never)
    assert "not the machine" not in capsys.readouterr().out
    other = RECORDED._replace(machine=MACHINE | {"cpu": "Abacus 2", "cores": 64})
    ratios.compare(other, RECORDED, never)
    printed = capsys.readouterr().out
    assert "This is not the machine of the record" in printed
    assert "cpu: Abacus 1 then, Abacus 2 now" in printed
    assert "cores: 2 then, 64 now" in printed
    assert "jax" not in printed


def test_a_record_is_read_as_it_was_written_and_nothing_else_is(tmp_path):
    path = tmp_path / "results" / "ratios.json"
    ratios.write(path, RECORDED)
    assert ratios.read(path) == RECORDED
    path.write_text('{"seconds": 3}')
    with pytest.raises(ValueError, match="is no record of ratios"):
        ratios.read(path)


def test_every_problem_of_the_benchmark_is_recorded():
    problems = pytest.importorskip("benchmarks._problems")
    check = pytest.importorskip("benchmarks.check", reason="needs the bench extra")
    recorded = ratios.read(check.RECORD)
    assert recorded.ratios.keys() == problems.SETTINGS.keys()
    assert {"cpu", "cores", "device"} <= recorded.machine.keys()
