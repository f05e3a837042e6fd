"""Starts of hypernets, at a small size."""

import json
import math
import pathlib

import numpy as np
import pytest
from archives import loaded

from configs import hypernet_start as configs
from experiments import _launch, hypernet_start

CONFIG = pathlib.Path(configs.__file__)


def test_what_it_writes(tmp_path):
    folder = tmp_path / "new"
    _launch.main(hypernet_start.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    arrays = loaded(folder / "hypernet_start.npz")
    assert results["hyperparameters"] == 784 * 2 + 2 + 2 * 2 + 2 + 2 * 10 + 10
    np.testing.assert_array_equal(arrays["training steps"], [0, 4])
    for label in (hypernet_start.PAPER, hypernet_start.MODEL):
        end = arrays[f"structured, {label}"][-1]
        assert results["main"][f"validation loss, structured, {label}"] == pytest.approx(end)
    assert (folder / "hypernet_start.png").exists()


@pytest.mark.parametrize(
    ("ours", "theirs", "holds"),
    [(0.2, 2.3, True), (0.2, math.nan, True), (0.2, 0.1, False), (0.6, 2.3, False)],
)
def test_its_claim_can_fail(ours, theirs, holds):
    ends = {"h, model's weights": ours, "h, paper's start": theirs}
    assert hypernet_start.claim("h", ends)["holds"] is holds
