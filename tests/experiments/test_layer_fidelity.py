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
    "ResNet": 7,  # the stem, two in each block, a skipped one, the head
    "transformer": 8,  # four in the attention, what embeds, two dense ones, the head
    "GRU": 7,
    "shared, 2 times": 3,
    "shared, 5 times": 3,
}


@pytest.mark.parametrize("name", layer_fidelity.NETWORKS)
def test_all_kernels_of_the_networks_have_factors(name):
    model = layer_fidelity.NETWORKS[name]
    variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images), IMAGES)
    made = jax.eval_shape(lambda *at: model.apply(*at), variables, IMAGES)
    assert made.shape == (3, CLASSES)

    def init(key):
        return model.init(key, jnp.zeros(IMAGES.shape))["params"]

    known = layers_of(Problem(init, lambda *_: 0.0, lambda *_: 0.0))
    assert len(known) == FACTORED[name]
    factored = {leaf for layer in known for leaf in (layer.kernel, layer.bias)}
    shapes = [leaf.shape for leaf in jax.tree.leaves(variables["params"])]
    others = [shape for i, shape in enumerate(shapes) if i not in factored and len(shape) > 1]
    assert others == ([(14, 16)] if name == "transformer" else [])  # the places of the tokens


def test_layers_are_the_modules_of_the_weights():
    kernel, bias = jnp.array([1.0, 2.0]), jnp.array([4.0])
    tree = {"a": {"kernel": kernel, "bias": bias}, "b": {"c": {"kernel": -kernel}}, "d": bias}
    found = layer_fidelity._layers(tree)
    assert list(found) == [report.WHOLE, report.PER_LAYER, "a", "b/c", "d"]
    assert [float(each) for each in found[report.PER_LAYER]] == [7, -3, 4]
    assert {name: sum(map(jnp.size, each)) for name, each in found.items()} == {
        report.WHOLE: 6,
        report.PER_LAYER: 3,
        "a": 3,
        "b/c": 2,
        "d": 1,
    }


def found(cosine, length, layers, per_layer=1.0, residual=1e-3):
    """Two draws around the given means."""
    each = {report.WHOLE: (cosine, length), report.PER_LAYER: (per_layer, 1.0), **layers}
    spread = {k: [[c - 0.01, n - 0.1], [c + 0.01, n + 0.1]] for k, (c, n) in each.items()}
    return {"tracked": spread, "alone": spread, "residual": [residual / 10, residual]}


@pytest.mark.parametrize(
    ("name", "measured", "holds"),
    [
        ("LeNet", found(0.86, 3.0, {"a": (0.1, 9.0)}, per_layer=0.84), [True, False]),
        ("LeNet", found(0.84, 1.0, {"a": (1.0, 1.0)}, per_layer=0.86), [False, True]),
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
        assert list(each[what]) == [report.WHOLE, report.PER_LAYER, "first", "head", "shared"]
        for ((cosine, length),) in each[what].values():
            assert abs(cosine) <= 1 + 1e-6
            assert 0 < length < np.inf
    assert results["claims"][0]["holds"] is None

    (kept,) = folder.glob("shared*.json")
    changed = each | {"residual": [0.125]}
    kept.write_text(json.dumps(changed))
    (folder / "results.json").unlink()
    _launch.main(layer_fidelity.run, [*arguments, "--resume"])
    again = json.loads((folder / "results.json").read_text())
    assert again["found"] == {"shared, 2 times": changed}
