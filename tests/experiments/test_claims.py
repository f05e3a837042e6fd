"""Claims and tables in plain text."""

import pytest

from experiments import _claims, _results


def claim(holds, text="A.", measured="1"):
    return _results.claim(text, measured, holds=holds)


def test_a_claim_stands_beside_its_verdict_and_above_its_numbers(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    claims = [
        claim(holds=False, text="A claim of many words.", measured="0.5 against 0.25"),
        claim(holds=True),
    ]
    assert _claims.shown(claims).splitlines() == [
        "DOES NOT HOLD  A claim of",
        "               many words.",
        "               0.5 against",
        "               0.25",
        "holds          A.",
        "               1",
        "1 of 2 claims hold.",
    ]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([True, False, True], "2 of 3 claims hold"),
        ([True, None, False, None], "1 of 2 claims hold, 2 not judged"),
        ([None], "1 claim not judged"),
        ([None, None], "2 claims not judged"),
    ],
)
def test_claims_are_counted(verdicts, expected):
    assert _claims.count([claim(holds=each) for each in verdicts]) == expected


def test_columns_of_a_table_are_as_wide_as_their_widest_cell():
    table = _results.table(
        ["", "test loss", "n"], [["grid", "0.5", "1,000"], ["ours", "0.25", "-"]]
    )
    assert table.splitlines() == [
        "      test loss      n",
        "grid        0.5  1,000",
        "ours       0.25      -",
    ]
