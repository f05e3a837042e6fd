"""Several hyperparameters tuned in one run, at a small size, and its pieces."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from configs import tuned_regularization as configs
from experiments import _launch, _regularized_network, tuned_regularization

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(tuned_regularization.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    pictures = {f"tuned_regularization.{ending}" for ending in ("png", "pdf", "npz")}
    names = {path.name for path in folder.iterdir()}
    assert names == pictures | {"fit", "config.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None, None]
    assert list(results["outcomes"]) == list(tuned_regularization.RECIPES)
    # Two trainings of 10 steps; 10 rounds of 5 hypernet steps and a hyper-step.
    costs = results["costs"]
    assert costs["random search"]["gradient_evaluations"] == 20
    assert costs["hyper-training"]["gradient_evaluations"] == 60


def test_shifts_are_linear_between_pixels_and_bring_in_black():
    offsets = jnp.array([[1.0, 0.0], [0.0, -0.5]])  # rows, then columns, of two images
    image = np.arange(1.0, 10.0).reshape(3, 3)
    inputs = jnp.asarray(np.stack([image.ravel()] * 2), jnp.float32)
    moved = _regularized_network.shifted(inputs, offsets[..., None, None])
    down, left = moved.reshape(2, 3, 3)
    np.testing.assert_allclose(down, [[0, 0, 0], [1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(left, [[1.5, 2.5, 1.5], [4.5, 5.5, 3], [7.5, 8.5, 4.5]])


@pytest.mark.parametrize(
    ("tuned", "seconds", "expected"),
    [(0.2, 1.0, [True, True]), (0.4, 1.0, [True, False]), (0.2, 9.0, [True, False])],
)
def test_its_claims_can_fail(tuned, seconds, expected):
    losses = dict(zip(tuned_regularization.RECIPES, (0.5, 0.3, tuned), strict=True))
    outcomes = {
        name: _regularized_network.Outcome(np.full(3, loss), np.full(3, 0.9))
        for name, loss in losses.items()
    }
    costs = {
        "hyper-training": {"gradient_evaluations": 10, "seconds": seconds},
        "random search": {"gradient_evaluations": 20, "seconds": 2.0},
    }
    found = tuned_regularization.claims(outcomes, costs)
    assert [claim["holds"] for claim in found] == expected
