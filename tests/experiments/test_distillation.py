"""Distillation at a small size, its hypergradient, and what it is compared with."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import loaded

from configs import distillation as configs
from experiments import _launch, distillation
from shohypernet.batches import Data, Examples

CONFIG = pathlib.Path(configs.__file__)


@pytest.fixture(scope="module")
def config():
    return configs.get_config("quick")


@pytest.fixture(scope="module")
def images():
    """Six images of each class, in no order of classes."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10), 6))
    inputs = rng.uniform(size=(60, 784)).astype(np.float32)
    return Examples(jnp.asarray(inputs), jnp.asarray(np.eye(10, dtype=np.float32)[labels]))


def test_quick(tmp_path):
    """By one method."""
    folder = tmp_path / "new"
    arguments = [f"--config={CONFIG}:quick", f"--workdir={folder}"]
    _launch.main(distillation.run, [*arguments, "--config.methods=('implicit',)"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None]
    assert len(results["main"]) == 4
    arrays = loaded(folder / "distillation.npz")
    assert arrays["distilled, implicit"].shape == (1, 10, 784)
    assert arrays["ten real images"].shape == (2, 10, 784)


def test_the_training_loss_reads_the_images_and_not_the_batch(config, images):
    """Against NumPy: softmax cross-entropy of ten images, and a decay of e⁻⁴ / 2."""
    problem = distillation.build(config)
    rng = np.random.default_rng(1)
    kernel, bias, given = (
        rng.normal(size=(784, 10)),
        rng.normal(size=10),
        rng.normal(size=(10, 784)),
    )
    params = jax.tree.map(jnp.float32, {"kernel": kernel, "bias": bias})
    found = problem.train_loss(params, jnp.float32(given), None, None)
    logits = given @ kernel + bias
    loss = np.mean(np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1))
    loss -= np.mean(np.diag(logits))
    decay = np.exp(-4) / 2 * (np.sum(kernel**2) + np.sum(bias**2))
    assert float(found) == pytest.approx(loss + decay, rel=1e-4)


def test_class_means_and_real_images_are_of_the_classes(images):
    inputs, targets = (np.asarray(part) for part in images)
    means = distillation.class_means(images)
    drawn = distillation.real_images(images, 3)
    assert drawn.shape == (3, 10, 784)
    for label in range(10):
        own = inputs[targets[:, label] == 1]
        np.testing.assert_allclose(means[label], own.mean(0), rtol=1e-5)
        np.testing.assert_array_equal(drawn[:, label], own[:3])


def test_what_separates_classes_is_learned_from_scratch(config):
    """Ten unit vectors, of which the test images are multiples; and labels that say nothing."""
    config = config.copy_and_resolve_references()
    config.update({"steps": 100, "hidden": 5})
    units = np.eye(784, dtype=np.float32)[:10]
    test = Examples(jnp.asarray(3 * units), jnp.eye(10))
    data = Data(test, jax.tree.map(lambda part: jnp.tile(part, (5, 1)), test), test)
    images = {
        distillation.LABELS["implicit"]: units[None],
        distillation.REAL: np.stack([units, units[::-1]]),
    }
    found = distillation.accuracies(images, data, config)
    assert found[distillation.LABELS["implicit"]][0] == 1.0
    assert found[distillation.REAL][0] == pytest.approx(0.5)  # all right, and all wrong
    assert found[distillation.ALL][0] == 1.0


@pytest.mark.parametrize(("accuracy", "holds"), [(0.9, True), (0.79, False)])
def test_its_claims_can_fail(accuracy, holds):
    name = distillation.LABELS["centered"]
    found = {name: (accuracy, 0.8)} | {
        rival: (score, score)
        for rival, score in zip(
            (distillation.MEANS, distillation.REAL, distillation.ALL), (0.8, 0.5, 0.92), strict=True
        )
    }
    (claim,) = distillation.claims(found, {name: 10.0})
    assert claim["holds"] == holds
