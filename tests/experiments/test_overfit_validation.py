"""Validation images fitted by decays, at a small size, and the judge of it."""

import json
import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import overfit_validation as configs
from experiments import _launch, overfit_validation
from shohypernet.batches import Data, Examples

CONFIG = pathlib.Path(configs.__file__)


@pytest.mark.slow
def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(overfit_validation.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None]
    assert results["decays"] == {"linear": 7_850, "mlp": 784 * 10 + 10 + 110}
    endings = {f"overfit_validation.{ending}" for ending in ("png", "pdf", "npz")}
    names = {path.name for path in folder.iterdir()}
    assert names == endings | {"linear", "mlp", "config.json", "results.json"}


def test_lenet_has_as_many_weights_as_lecun_s_with_padding():
    params = overfit_validation.LeNet().init(jax.random.key(0), jnp.zeros((2, 784)))
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    convolutions = (25 + 1) * 6 + (25 * 6 + 1) * 16
    dense = (7 * 7 * 16 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    assert sum(sizes) == convolutions + dense


def test_accuracies_count_images():
    inputs = np.eye(784, dtype=np.float32)[:4]
    labels = np.array([0, 1, 2, 3])
    kernel = np.zeros((784, 10), np.float32)
    kernel[[0, 1, 2, 3], [0, 1, 2, 9]] = 1  # the last is told wrong
    params = {"layers_0": {"kernel": kernel, "bias": np.zeros(10, np.float32)}}
    examples = Examples(jnp.asarray(inputs), jax.nn.one_hot(labels, 10))
    data = Data(examples, jax.tree.map(lambda part: part[:3], examples), examples)
    found = overfit_validation.accuracies("linear", params, data, configs.get_config("quick"))
    assert found == {"train": 0.75, "valid": 1.0, "test": 0.75}


@pytest.mark.parametrize(
    ("tuned", "untuned", "holds"), [(1.0, 0.7, True), (0.98, 0.7, False), (1.0, 1.0, False)]
)
def test_its_claim_can_fail(tuned, untuned, holds):
    def shares(valid):
        return {"mlp": {"train": 1.0, "valid": valid, "test": 0.7}}

    history = {"mlp": SimpleNamespace(valid_loss=[1.0, 0.1])}
    (claim,) = overfit_validation.claims(shares(tuned), shares(untuned), history, {"mlp": 3})
    assert claim["holds"] == holds
