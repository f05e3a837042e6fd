"""Figure 6, at a small size, and what it is made of against closed forms in float64."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import loaded
from scipy import optimize

import shohypernet as shn
from configs import weights_versus_loss as configs
from experiments import (
    _inference_claims,
    _inferred_losses,
    _launch,
    _principal_axes,
    weights_versus_loss,
)
from shohypernet import ridge
from shohypernet.batches import Data, Examples
from shohypernet.problem import param_shapes

CONFIG = pathlib.Path(configs.__file__)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights_versus_loss") / "new"
    arguments = [f"--config={CONFIG}:quick", f"--workdir={folder}"]
    _launch.main(weights_versus_loss.run, arguments)
    return folder, arguments


@pytest.fixture(scope="module")
def data():
    """Three splits of 30 examples with 6 inputs and 3 classes; the last input is always 0."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(3, 30, 6)).astype(np.float32)
    inputs[..., -1] = 0
    targets = np.eye(3, dtype=np.float32)[rng.integers(3, size=(3, 30))]
    return Data(
        *(Examples(*map(jnp.asarray, split)) for split in zip(inputs, targets, strict=True))
    )


def test_what_it_writes(made):
    folder, _ = made
    names = {path.name for path in folder.iterdir()}
    pictures = {f"weights_versus_loss.{ending}" for ending in ("png", "pdf", "npz")}
    fits = {"fixed_0", "stochastic", "relu"}
    assert names == pictures | fits | {"trained.npz", "config.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert len(results["claims"]) == 5
    assert results["gradient_evaluations_of_each_method"] == 25 * 40


def test_its_results_are_those_of_its_arrays(made):
    folder, _ = made
    arrays = loaded(folder / "weights_versus_loss.npz")
    results = json.loads((folder / "results.json").read_text())
    assert arrays["hyperparams"].shape == (100, 10)
    assert np.abs(arrays["hyperparams"]).max() <= 3
    true = arrays["true_loss"]
    assert results["true_best"] == pytest.approx(true.min())
    for name, found in results["errors"].items():
        errors = np.sort(arrays[f"inferred_{name}"][0] - true)
        # Of 100 sorted errors, the 5 % quantile lies between the fifth and the sixth.
        assert errors[4] <= found["quantile_5"][0] <= errors[5]
        assert errors[49] <= found["median"][0] <= errors[50]
        assert errors[94] <= found["quantile_95"][0] <= errors[95]
        assert found["range_90"][0] == pytest.approx(
            found["quantile_95"][0] - found["quantile_5"][0]
        )
        chosen = np.argmin(arrays[f"inferred_{name}"][0])
        assert found["then_obtained"][0] == pytest.approx(true[chosen])
        assert found["best_predicted"][0] == pytest.approx(arrays[f"inferred_{name}"].min())


def test_resume_does_nothing_again(made, monkeypatch):
    folder, arguments = made
    before = loaded(folder / "weights_versus_loss.npz")
    before = {name: before[name] for name in before}
    trained = []
    monkeypatch.setattr(
        _inferred_losses,
        "train",
        lambda problem, data, hyperparams, config, steps: (
            trained.append(steps) or np.zeros(len(hyperparams))
        ),
    )
    _launch.main(weights_versus_loss.run, [*arguments, "--resume"])
    assert trained == [80]  # the 25 of twice the steps alone
    after = loaded(folder / "weights_versus_loss.npz")
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_a_budget_of_broken_rounds_is_refused(tmp_path):
    config = configs.get_config("quick")
    config.models = 3
    with pytest.raises(ValueError, match=r"= 120 gradient evaluations must be whole rounds .* 100"):
        weights_versus_loss.run(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_principal_axes_keep_every_loss(data):
    rotated, exact = _principal_axes.rotate(data), ridge.ridge(data)
    _, axes = np.linalg.eigh(exact.train.gram)
    weights = np.random.default_rng(1).normal(size=(7, 3))
    turned = jnp.float32(axes.T @ weights)
    for split, expected in zip(rotated, ridge.losses(exact, weights), strict=True):
        found = _principal_axes.mean_squared_error(turned, split)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    for decay in (-3.0, 1.0):
        expected = axes.T @ ridge.best_response(exact, decay)
        found = _principal_axes.best_response(rotated.train, jnp.float32(decay))
        np.testing.assert_allclose(found, expected, atol=2e-5)


def class_norm_optimum(moments: ridge.Moments, log_decay: np.ndarray) -> np.ndarray:
    """The weights of least NLL + mean_c exp(λ_c)‖w_c‖₂, class by class, by a root in one number.

    With σ = 0.1 and C classes the gradient is (100/C)(A w − B) + (exp(λ)/C) w/‖w‖ = 0, so that
    w = (A + μ)⁻¹ B with 100 μ ‖w‖ = exp(λ), or w = 0 if 100 ‖B‖ is not above exp(λ).
    """
    columns = []
    for decay, cross in zip(np.exp(log_decay), moments.cross.T, strict=True):

        def solution(mu: float, cross: np.ndarray = cross) -> np.ndarray:
            return np.linalg.solve(moments.gram + mu * np.eye(len(cross)), cross)

        def excess(log_mu: float, decay: float = decay, solution: Any = solution) -> float:
            mu = np.exp(log_mu)
            return 100 * mu * np.linalg.norm(solution(mu)) - decay

        if 100 * np.linalg.norm(cross) <= decay:
            columns.append(np.zeros_like(cross))
        else:
            columns.append(solution(np.exp(optimize.brentq(excess, -20, 20, xtol=1e-12))))
    return np.stack(columns, axis=1)


def test_models_are_trained_to_completion(data):
    rotated, exact = _principal_axes.rotate(data), ridge.ridge(data)
    problem = _principal_axes.problem_on(
        rotated, shn.losses.gaussian_nll_from_mse, shn.penalties.class_norm_penalty
    )
    config = configs.get_config("quick")
    config.models_at_once = 4  # fewer than there are, so that the last population is filled up
    many = np.random.default_rng(2).uniform(-3, 3, size=(6, 3))
    many[0, 1] = 5.0  # which leaves no weight but zero
    best = [class_norm_optimum(exact.train, each) for each in many]
    assert not np.any(best[0][:, 1])
    assert np.all(np.linalg.norm(best[0][:, [0, 2]], axis=0) > 0)
    expected = [50 * ridge.losses(exact, weights).valid - 1.3836466 for weights in best]
    found = _inferred_losses.train(problem, rotated, jnp.float32(many), config, steps=3_000)
    assert found.shape == (6,)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_inferred_losses_are_those_of_the_hypernet_s_weights(data):
    rotated, exact = _principal_axes.rotate(data), ridge.ridge(data)
    problem = _principal_axes.problem_on(
        rotated, shn.losses.gaussian_nll_from_mse, shn.penalties.class_norm_penalty
    )
    hypernet = shn.hypernets.linear()
    rng = np.random.default_rng(3)
    points = jnp.float32(rng.normal(size=(5, 3)))
    shapes = param_shapes(problem)
    like = jax.eval_shape(hypernet.init, jax.random.key(0), shapes, points[0])
    phis = jax.tree.map(lambda leaf: jnp.float32(rng.normal(0, 0.3, (2, *leaf.shape))), like)
    config = configs.get_config("quick")
    config.models_at_once = 2
    found = _inferred_losses.infer(problem, hypernet, phis, points, rotated, config)
    _, axes = np.linalg.eigh(exact.train.gram)
    for i in range(2):
        phi = jax.tree.map(lambda leaf, i=i: leaf[i], phis)
        for j, point in enumerate(points):
            weights = axes @ np.asarray(hypernet.apply(phi, point), np.float64)
            expected = 50 * ridge.losses(exact, weights).valid - 1.3836466
            assert found[i, j] == pytest.approx(expected, rel=1e-4)


def claims(**changes):
    """What is claimed of a summary in which all holds, but for the changes."""
    found = {
        name: {
            "median": [median, 2 * median],
            "range_90": [width, width + 0.01],
            "best_predicted": [0.5, 0.5],
            "then_obtained": [0.5, 0.505],
        }
        for name, median, width in [
            ("process", -0.02, 0.3),
            ("fixed", 0.02, 0.2),
            ("stochastic", 0.001, 0.1),
            ("process_ours", -0.1, 0.2),
            ("relu", 0.0, 0.05),
        ]
    }
    for name, fields in changes.items():
        found[name].update(fields)
    trends = {"process_by_distance": [0.0, -0.1], "stochastic_by_true_loss": [0.1, -0.1]}
    made = _inference_claims.claims(found, trends, 0.5, 0.9)
    return [claim["holds"] for claim in made]


def test_each_claim_can_fail_alone():
    assert claims() == [True] * 5
    for i, change in enumerate(
        [
            {"process": {"median": [-0.02, 0.03]}},
            {"fixed": {"median": [0.02, -0.03]}},
            {"stochastic": {"median": [0.001, -0.02]}},
            {"stochastic": {"range_90": [0.1, 0.21]}},
            {"process": {"then_obtained": [0.5, 0.53]}},
        ]
    ):
        assert claims(**change) == [j != i for j in range(5)]


def test_means_by_tenths():
    order, errors = np.arange(20)[::-1], np.stack([np.arange(20.0), np.arange(20.0) + 1])
    # The least in order is the last error: 19 and 18 of the first row, 20 and 19 of the second.
    expected = [19.0 - 2 * i for i in range(10)]
    assert _inference_claims.by_tenths(order, errors) == pytest.approx(expected)
