"""Figures 2 and 3 run from end to end at their `quick` size."""

import json
import pathlib

import numpy as np
import pytest
from archives import loaded

from configs import common
from experiments import _launch, global_best_response, local_best_response

CONFIGS = pathlib.Path(common.__file__).parent


@pytest.mark.parametrize(
    ("experiment", "fits"),
    [
        (global_best_response, {"fit"}),
        (local_best_response, {"sampling_0.3", "sampling_0"}),
    ],
)
def test_quick(experiment, fits, tmp_path):
    name, folder = experiment.__name__.split(".")[-1], tmp_path / "new"
    _launch.main(experiment.run, [f"--config={CONFIGS / name}.py:quick", f"--workdir={folder}"])
    made = {path.name for path in folder.iterdir()}
    pictures = {f"{name}.{ending}" for ending in ("png", "pdf", "npz")}
    assert made == pictures | fits | {"config.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None, None]
    arrays = loaded(folder / f"{name}.npz")
    np.testing.assert_allclose(arrays["cross_hyperparams"], np.arange(-2.0, 5.0))
    best = np.argmin(arrays["cross_valid_loss"])
    assert results["cross_validated_optimum"] == arrays["cross_hyperparams"][best]
