"""Self-tuning of a small LeNet, at a small size, and its claims."""

import json
import pathlib

import numpy as np
import pytest

from configs import self_tuning as configs
from experiments import _launch, self_tuning
from experiments._augmented_lenet import Outcome

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(self_tuning.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    pictures = {f"self_tuning.{ending}" for ending in ("png", "pdf", "npz")}
    names = {path.name for path in folder.iterdir()}
    assert names == pictures | {"fit", "config.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 4
    assert np.shape(results["outcomes"]["self-tuning"]["loss"]) == (2,)
    # Two rounds of five inner steps at three gradients, and two more; trials of four steps.
    assert results["costs"]["self-tuning"][0] == 2 * (3 * 5 + 2)
    assert results["costs"]["random search"][0] == 32


@pytest.mark.parametrize(
    ("error", "loss", "valid", "expected"),
    [
        (0.7, 0.03, 0.04, [True, True, True, True]),
        (0.9, 0.03, 0.04, [True, True, False, True]),
        (1.1, 0.06, 0.06, [False, False, False, False]),
    ],
)
def test_its_claims_can_fail(error, loss, valid, expected):
    others = (self_tuning.OFF, self_tuning.DECAY, self_tuning.RANDOM, self_tuning.TPE)
    outcomes = {name: Outcome(np.full(3, 0.05), np.full(3, 0.01)) for name in others}
    for name in (self_tuning.TUNED, self_tuning.SCHEDULE):
        outcomes[name] = Outcome(np.full(3, loss), np.full(3, error / 100))
    losses = {self_tuning.RANDOM: 0.05, self_tuning.TPE: 0.05, self_tuning.TUNED: valid}
    found = self_tuning.claims(outcomes, {name: np.full(3, each) for name, each in losses.items()})
    assert [claim["holds"] for claim in found] == expected
