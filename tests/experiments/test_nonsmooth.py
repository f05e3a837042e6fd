"""Tuned elastic nets and sparse group lassos at a small size, and their pieces."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import shohypernet as shn
from configs import elastic_net as elastic_config
from configs import sparse_group_lasso as group_config
from experiments import _elastic_net_path, _launch, _nonsmooth, elastic_net, sparse_group_lasso
from shohypernet import proximal
from shohypernet.batches import Data, Examples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "config", "count"),
    [(elastic_net, elastic_config, 4), (sparse_group_lasso, group_config, 5)],
)
def test_quick(module, config, count, tmp_path):
    folder = tmp_path / "new"
    arguments = [f"--config={pathlib.Path(config.__file__)}:quick", f"--workdir={folder}"]
    _launch.main(module.run, arguments)
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * count
    endings = {f"{module.NAME}.{ending}" for ending in ("png", "pdf", "npz")}
    names = {path.name for path in folder.iterdir()}
    assert names == endings | {"config.json", "results.json"}


def test_data_are_correlated_and_as_noisy_as_they_should_be():
    config = elastic_config.get_config()
    weights = np.array([1.0, -2.0, 0.0, 3.0])
    data = _nonsmooth.draw(weights, (30_000, 20_000, 10_000), config, 0)
    assert [len(part.targets) for part in data] == [30_000, 20_000, 10_000]
    inputs, targets = (np.concatenate(parts) for parts in zip(*data, strict=True))
    distances = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    np.testing.assert_allclose(np.cov(inputs.T), 0.5**distances, atol=0.03)
    signal = inputs @ weights
    noise = targets - signal
    assert np.linalg.norm(signal) / np.linalg.norm(noise) == pytest.approx(2)
    assert abs(np.corrcoef(signal, noise)[0, 1]) < 0.02
    again = _nonsmooth.draw(weights, (30_000, 20_000, 10_000), config, 0)
    other = _nonsmooth.draw(weights, (30_000, 20_000, 10_000), config, 1)
    np.testing.assert_array_equal(again.train.inputs, data.train.inputs)
    assert not np.any(other.train.inputs[0] == data.train.inputs[0])


def test_scikit_learn_solves_our_elastic_net():
    """The training loss of the problem is least at its weights: no direction leads down."""
    config = elastic_config.get_config("quick")
    weights = np.repeat([1.0, 0.0], [5, 25])
    data = _nonsmooth.draw(weights, config.sizes, config, 0)
    decays = {"l1": 0.3, "l2": 0.2}
    found = elastic_net.solve(data.train, decays)
    problem = elastic_net.build(config)
    with jax.enable_x64(True):
        loss = jax.jit(lambda w: problem.train_loss(w, decays, data.train, None))
        least = float(loss(jnp.asarray(found)))
        rng = np.random.default_rng(0)
        for _ in range(200):
            direction = rng.normal(size=30) * rng.integers(0, 2, 30)
            assert loss(jnp.asarray(found + 1e-3 * direction)) >= least - 1e-12
    assert 0 < np.sum(found == 0) < 30


def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian():
    inputs = np.random.default_rng(0).normal(size=(7, 4))
    hessian = inputs.T @ inputs / 7
    largest = np.linalg.eigvalsh(hessian).max()
    assert _nonsmooth.curvature(inputs) == pytest.approx(largest)
    assert _nonsmooth.curvature(np.stack([inputs, 2 * inputs])) == pytest.approx(4 * largest)


def test_errors_are_those_of_weights_fitted_at_each_run_s_decay():
    rng = np.random.default_rng(0)
    runs = [
        Data(*(Examples(rng.normal(size=(n, 2)), rng.normal(size=n)) for n in (6, 5, 4)))
        for _ in range(2)
    ]
    decays = np.array([0.1, 3.0])

    def solve(examples, decay):
        inputs, targets = examples
        return np.linalg.solve(inputs.T @ inputs + decay * np.eye(2), inputs.T @ targets)

    found = _nonsmooth.errors(solve, runs, decays)
    data = runs[1]
    stacked = np.vstack([data.train.inputs, data.valid.inputs])
    targets = np.hstack([data.train.targets, data.valid.targets])
    refitted = np.linalg.solve(stacked.T @ stacked + 3 * np.eye(2), stacked.T @ targets)
    weights = solve(data.train, 3.0)
    assert found["valid"][1] == pytest.approx(
        np.mean((data.valid.inputs @ weights - data.valid.targets) ** 2)
    )
    assert found["refitted"][1] == pytest.approx(
        np.mean((data.test.inputs @ refitted - data.test.targets) ** 2)
    )
    assert found["test"].shape == (2,)


def test_weights_of_the_sparse_group_lasso_are_a_minimum(float64):
    """By the conditions of optimality, group by group, in NumPy."""
    config = group_config.get_config("quick")
    true = sparse_group_lasso.weights(4, config)
    assert true.reshape(4, 10)[:, :6].tolist() == [[1, 2, 3, 4, 5, 0]] * 3 + [[0] * 6]
    data = _nonsmooth.draw(true, config.sizes, config, 0)
    regularizer = proximal.sparse_group_lasso(np.arange(40) // 10)
    problem = _nonsmooth.problem(40, regularizer, shn.hyperparameters.log())
    optimizer = proximal.gradient(regularizer, 1 / _nonsmooth.curvature(data.train.inputs))
    decays = {"l1": 0.5, "groups": np.array([0.5, 4.0, 1.0, 30.0])}
    found = sparse_group_lasso._solver(problem, optimizer, 20_000)(data.train, decays)
    inputs, targets = data.train
    pulls = -inputs.T @ (inputs @ found - targets) / len(targets)
    active = 0
    for w, pull, decay in zip(
        found.reshape(4, 10), pulls.reshape(4, 10), decays["groups"], strict=True
    ):
        beyond = np.sign(pull) * np.maximum(np.abs(pull) - 0.5, 0)
        if not np.any(w):
            assert np.linalg.norm(beyond) <= decay
            continue
        active += 1
        on = w != 0
        expected = 0.5 * np.sign(w[on]) + decay * w[on] / np.linalg.norm(w)
        np.testing.assert_allclose(pull[on], expected, atol=1e-4)
        assert np.all(np.abs(pull[~on]) <= 0.5 + 1e-4)
    assert 0 < active < 4
    assert np.any(found[:10] == 0)  # within a group too


def _outcomes(valid, refitted):
    made = {name: {"valid": np.ones(3), "refitted": np.ones(3)} for name in ("grid", "unrolled")}
    made |= {"local_response": made["grid"], "ElasticNetCV": {"refitted": np.ones(3)}}
    made["implicit"] = {"valid": np.full(3, valid), "refitted": np.full(3, refitted)}
    made["implicit, folds"] = {"refitted": np.full(3, refitted)}
    return made


@pytest.mark.parametrize(
    ("valid", "refitted", "off", "step", "expected"),
    [
        (1.005, 1.01, 0.0, 0.0, [True, True, True, True]),
        (1.02, 1.03, 0.0, 0.0, [True, False, False, False]),
        (1.0, 1.0, 0.1, 0.0, [False, True, True, True]),
        (1.0, 1.0, 0.0, 9.0, [False, True, True, True]),
    ],
)
def test_claims_about_elastic_nets_can_fail(valid, refitted, off, step, expected):
    points = np.arange(40.0)
    loss = points + step * (points > 20)
    slope = np.ones(40)
    path = _elastic_net_path.Path(points, loss, slope + off, slope, slope, np.ones(40, bool))
    found = elastic_net.claims(_outcomes(valid, refitted), path)
    assert [claim["holds"] for claim in found] == expected


@pytest.mark.parametrize(
    ("two", "each", "folded", "small", "expected"),
    [
        (1.0, 0.8, 0.9, 0.1, [True, True, True, True, True]),
        (1.02, 0.95, 1.1, 0.5, [False, False, False, True, False]),
        (1.0, 1.1, 0.9, 0.1, [True, False, True, False, True]),
    ],
)
def test_claims_about_sparse_group_lassos_can_fail(two, each, folded, small, expected):
    def fields(value):
        penalties = np.array([[small, 1.0, 1.0]] * 2)
        return {
            "valid": np.full(2, value),
            "refitted": np.full(2, value),
            "groups": penalties,
        }

    module = sparse_group_lasso
    ways = (module.GRID, module.TWO, module.EACH, module.TWO_FOLDED, module.EACH_FOLDED)
    values = (1.0, two, each, 1.0, folded)
    found = module.claims({3: dict(zip(ways, map(fields, values), strict=True))}, 1)
    assert [claim["holds"] for claim in found] == expected
