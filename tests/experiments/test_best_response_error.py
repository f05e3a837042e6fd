"""Predicted losses against trained models: a small run, and the problem by hand."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import loaded
from scipy import special

from configs import best_response_error as configs
from experiments import _launch, best_response_error
from shohypernet.batches import Examples

CONFIG = pathlib.Path(configs.__file__)


def test_what_it_writes(tmp_path):
    folder = tmp_path / "new"
    smaller = ["--config.numbers=(5,)", "--config.widths=(2,)"]
    _launch.main(
        best_response_error.run, [f"--config={CONFIG}:quick", f"--workdir={folder}", *smaller]
    )
    results = json.loads((folder / "results.json").read_text())
    names = "paper 2", "standardized 2", "gated"
    arrays = loaded(folder / "best_response_error.npz")
    assert set(arrays) == {f"5: {name}" for name in ("trained", *names)}
    for name in names:
        expected = np.abs(arrays[f"5: {name}"] - arrays["5: trained"]).mean()
        assert results["main"][f"error, {name}"] == [pytest.approx(expected, rel=1e-5)]
    assert (folder / "best_response_error.png").exists()


@pytest.mark.parametrize(("number", "decays"), [(1, 1), (2, 1), (5, 4), (10, 9)])
def test_the_problem_by_hand(number, decays):
    config = configs.get_config("quick")
    problem, start = best_response_error.build(number, config)
    assert sum(leaf.size for leaf in jax.tree.leaves(start)) == number
    rng = np.random.default_rng(0)
    kernel, images = rng.normal(size=(196, 10)), rng.uniform(size=(3, 196))
    targets = np.eye(10)[[1, 5, 5]]
    hyperparams = {"decay": np.arange(1.0, decays + 1) / 100}
    smoothing = 0.0
    if number > 1:
        smoothing = hyperparams["smoothing"] = 0.2
    # Blocks are numbered along rows of the image; a pixel's decay is that of its block.
    side = round(np.sqrt(decays))
    edges = [np.floor(2 * np.arange(14) * side / 28).astype(int)] * 2
    block = (edges[0][:, None] * side + edges[1]).ravel()
    smooth = (1 - smoothing) * targets + smoothing / 10
    expected = -np.mean(np.sum(smooth * special.log_softmax(images @ kernel, axis=1), axis=1))
    expected += np.sum(hyperparams["decay"][block][:, None] * kernel**2)
    params = {"kernel": jnp.float32(kernel), "bias": jnp.zeros(10)}
    batch = Examples(jnp.float32(images), jnp.float32(targets))
    hyperparams = jax.tree.map(jnp.float32, hyperparams)
    found = problem.train_loss(params, hyperparams, batch, jax.random.key(0))
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("wide", "holds"), [(0.01, [True, True, True]), (0.3, [False, False, False])]
)
def test_its_claims_can_fail(wide, holds):
    config = configs.get_config("quick")
    errors = {
        "paper 2": [0.3],
        "paper 4": [0.2],
        "standardized 2": [0.25],
        "standardized 4": [wide],
    }
    made = best_response_error.claims(errors, [0.5], config)
    assert [claim["holds"] for claim in made] == holds
