"""Fidelity for the layers that people train: the networks, what is compared, and the verdicts."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import layer_fidelity as configs
from experiments import _launch, layer_fidelity
from experiments import _layer_fidelity_report as report
from experiments import _regularized_network as shrunk
from shohypernet import Problem
from shohypernet._internal.layers import layers_of
from shohypernet.datasets import CLASSES

IMAGES = jax.ShapeDtypeStruct((3, 14 * 14), jnp.float32)
FACTORED = {
    "LeNet": 5,
    "LeNet, by layer": 5,
    "ResNet": 7,  # the stem, two in each block, a skipped one, the head
    "transformer": 8,  # four in the attention, what embeds, two dense ones, the head
    "GRU": 7,
    "shared, 2 times": 3,
    "shared, 5 times": 3,
}


@pytest.mark.parametrize("name", layer_fidelity.NETWORKS)
def test_all_kernels_of_the_networks_have_factors(name):
    model = layer_fidelity.NETWORKS[name].model
    variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images), IMAGES)
    made = jax.eval_shape(lambda *at: model.apply(*at), variables, IMAGES)
    assert made.shape == (3, CLASSES)

    def init(key):
        return model.init(key, jnp.zeros(IMAGES.shape))["params"]

    known = layers_of(Problem(init, lambda *_: 0.0, lambda *_: 0.0))
    leaves = jax.tree.leaves(variables["params"])
    kernels = [i for i, leaf in enumerate(leaves) if leaf.ndim > 1]
    factored = {layer.kernel for layer in known}
    assert len(factored) == FACTORED[name]
    # All but the places of the transformer's tokens.
    assert len(set(kernels) - factored) == (name == "transformer")


def test_layers_are_the_modules_of_the_weights():
    tree = {"a": {"kernel": jnp.ones(2), "bias": jnp.zeros(1)}, "b": {"c": {"kernel": jnp.ones(3)}}}
    found = {name: sum(map(jnp.size, each)) for name, each in layer_fidelity._layers(tree).items()}
    assert found == {"whole": 6, "a": 3, "b/c": 3}
    by_layer = layer_fidelity._layers({"a": jnp.float32(1), "b": jnp.float32(2)})
    assert list(by_layer) == ["whole", "a", "b"]


def found(cosine, length, layers, residual=1e-3):
    """Two draws around the given means."""
    each = {"whole": (cosine, length), **layers}
    spread = {k: [[c - 0.01, n - 0.1], [c + 0.01, n + 0.1]] for k, (c, n) in each.items()}
    return {"tracked": spread, "alone": spread, "residual": [residual / 10, residual]}


@pytest.mark.parametrize(
    ("name", "measured", "holds"),
    [
        ("LeNet", found(0.86, 3.0, {"a": (0.1, 9.0)}), [True]),
        ("LeNet, by layer", found(0.84, 1.0, {"a": (1.0, 1.0)}), [False]),
        ("GRU", found(0.75, 1.4, {"a": (0.71, 1.4), "b": (0.9, 0.7)}), [True, True]),
        ("ResNet", found(0.75, 1.4, {"a": (0.69, 1.4), "b": (0.9, 0.7)}), [True, False]),
        ("transformer", found(0.75, 1.4, {"a": (0.71, 1.4), "b": (0.9, 0.6)}), [True, False]),
        ("transformer", found(0.75, 0.6, {"a": (0.9, 1.0)}), [False, True]),
        ("shared, 2 times", found(0.1, 2.0, {"shared": (0.1, 0.91)}), [True]),
        ("shared, 5 times", found(0.9, 1.0, {"shared": (0.9, 1.2)}), [False]),
        ("GRU", found(0.9, 1.0, {"a": (0.9, 1.0)}, residual=0.1), [None, None]),
    ],
)
def test_claims_are_judged_by_means_where_the_reference_has_converged(name, measured, holds):
    claims = report.claims({name: measured})
    assert [each["holds"] for each in claims] == holds
    assert all(name in each["claim"] for each in claims)


def test_quick_run_and_what_a_resumed_one_keeps(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shrunk, "load_data", lambda config: data)
    folder = tmp_path / "new"
    config = f"--config={pathlib.Path(configs.__file__)}:quick"
    arguments = [config, f"--workdir={folder}", "--config.cg_steps=300", "--config.tolerance=1e-5"]
    _launch.main(layer_fidelity.run, arguments)
    results = json.loads((folder / "results.json").read_text())
    (each,) = results["found"].values()
    assert each["residual"][0] < 1e-3
    for what in ("tracked", "alone"):
        assert list(each[what]) == ["whole", "first", "head", "shared"]
        for ((cosine, length),) in each[what].values():
            assert 0 < cosine <= 1 + 1e-6
            assert 0 < length < np.inf
    assert results["claims"][0]["holds"] is None

    (kept,) = folder.glob("shared*.json")
    changed = each | {"residual": [0.125]}
    kept.write_text(json.dumps(changed))
    (folder / "results.json").unlink()
    _launch.main(layer_fidelity.run, [*arguments, "--resume"])
    again = json.loads((folder / "results.json").read_text())
    assert again["found"] == {"shared, 2 times": changed}
