"""The Stackelberg prediction game at a small size, and its pieces against closed forms."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from configs import stackelberg_prediction as configs
from experiments import _launch, stackelberg_prediction
from experiments import _strategic_data as strategic
from experiments import _strategic_exact as exact
from experiments import _strategic_learning as learning
from experiments._strategic_data import Rows

CONFIG = pathlib.Path(configs.__file__)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    inputs = np.column_stack([rng.uniform(size=(40, 3)), np.ones(40)])
    targets = inputs @ [2.0, -1.0, 3.0, 1.0] + rng.normal(size=40)
    return Rows(inputs, np.maximum(targets, 3.0), targets)


@pytest.mark.slow
def test_quick(tmp_path):
    folder = tmp_path / "new"
    arguments = [f"--config={CONFIG}:quick", f"--workdir={folder}"]
    _launch.main(stackelberg_prediction.run, arguments)
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 3
    endings = {f"stackelberg_prediction.{ending}" for ending in ("png", "pdf", "npz")}
    names = {path.name for path in folder.iterdir()}
    assert names == endings | {"config.json", "results.json"}
    learned = {learning.LABELS[name] for name in ("centered", "rows")}
    others = {"exact", "ridge", "ridge, retrained", "SQP from ridge"}
    assert set(results["test_errors"]) == learned | others


@pytest.mark.parametrize("cost", [0.05, 2.0])
def test_owners_move_where_it_costs_them_least(rows, cost):
    weights = np.array([0.5, -0.3, 0.8, 0.1])
    best = exact.moved(weights, cost, rows)
    x, z = rows.inputs[7], rows.wanted[7]

    def owner(there):
        return (weights @ there - z) ** 2 + cost * np.sum((there - x) ** 2)

    np.testing.assert_allclose(scipy.optimize.minimize(owner, x).x, best[7], atol=1e-5)
    np.testing.assert_allclose(exact.predictions(weights, cost, rows), best @ weights)


@pytest.mark.parametrize("cost", [0.01, 0.5, 5.0])
def test_no_weights_beat_the_exact_solver_s(rows, cost):
    """Against quasi-Newton searches from many starts, none of which is told about the sphere."""
    found = exact.error(exact.solve(cost, rows), cost, rows)
    rng = np.random.default_rng(0)
    rivals = [
        scipy.optimize.minimize(
            lambda v: exact.error(np.sqrt(cost) * v, cost, rows), rng.normal(scale=3, size=4)
        ).fun
        for _ in range(20)
    ]
    assert found <= min(rivals) + 1e-9
    assert found == pytest.approx(min(rivals), rel=1e-4)


@pytest.mark.parametrize("cost", [0.05, 0.75])
def test_the_best_policy_is_the_owners_response(rows, cost, key):
    """The training loss is least at the policy that moves every row to X*."""
    batch = Rows(*(jnp.asarray(part, jnp.float32) for part in rows))
    hyperparams = {"length": jnp.float32(1.5), "direction": jnp.array([1.0, -2.0, 0.5, 1.0])}
    weights = np.sqrt(cost) * np.asarray(learning.weights(hyperparams))
    assert np.linalg.norm(weights) == pytest.approx(1.5 * np.sqrt(cost), rel=1e-6)
    efforts = np.sqrt(cost) * (exact.moved(weights, cost, rows) - rows.inputs)

    # Of the data as weights the moves themselves, of the policy their regression on its inputs.
    by_row = learning.by_row(jnp.float32(cost), rows.inputs.shape)
    moves = jnp.asarray(efforts, jnp.float32)
    gradient = jax.grad(by_row.train_loss)(moves, hyperparams, batch, key)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)

    seen = np.column_stack([rows.inputs[:, :-1], rows.wanted])
    reads = np.column_stack([(seen - seen.mean(0)) / seen.std(0), np.ones(len(seen))])
    fitted, residual, *_ = np.linalg.lstsq(reads, efforts, rcond=None)
    np.testing.assert_allclose(residual, 0, atol=1e-20)  # such a policy has no error
    params = {"kernel": jnp.float32(fitted[:-1]), "bias": jnp.float32(fitted[-1])}
    problem = learning.by_policy(jnp.float32(cost), rows)
    gradient = jax.grad(problem.train_loss)(params, hyperparams, batch, key)
    jax.tree.map(lambda leaf: np.testing.assert_allclose(leaf, 0, atol=1e-5), gradient)
    for each, made in ((problem, params), (by_row, moves)):
        found = each.valid_loss(made, hyperparams, batch)
        assert found == pytest.approx(exact.error(weights, cost, rows), rel=1e-4)


def test_folds_are_apart_and_all_of_one_size():
    made = strategic.folds(43, 10)
    tests = np.concatenate([test for _, test in made])
    assert len(tests) == len(set(tests)) == 40
    for train, test in made:
        assert len(train) == 39
        assert not set(train) & set(test)
        assert sorted([*train, *test]) == list(range(43))


def test_many_rows_are_like_the_few_but_for_noise(rows):
    more = strategic.many(rows, 20_000, 0.1)
    assert more.inputs.shape == (20_000, 4)
    np.testing.assert_array_equal(more.inputs[:, -1], 1)
    np.testing.assert_allclose(more.targets.mean(), rows.targets.mean(), atol=0.05)
    spread = np.sqrt(rows.inputs[:, :-1].std(0) ** 2 + 0.1**2)
    np.testing.assert_allclose(more.inputs[:, :-1].std(0), spread, rtol=0.05)


def test_wine_is_read_from_where_the_user_has_it(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOHYPERNET_WINE", raising=False)
    config = configs.get_config("wine")
    with pytest.raises(FileNotFoundError, match="SHOHYPERNET_WINE"):
        strategic.load(config)
    path = tmp_path / "wine.csv"
    table = np.random.default_rng(0).uniform(size=(6, 12)).round(3)
    table[:, -1] = [5, 7, 6, 8, 3, 6]
    np.savetxt(path, table, delimiter=";", header=";".join("abcdefghijkl"), comments="", fmt="%g")
    monkeypatch.setenv("SHOHYPERNET_WINE", str(path))
    rows, unit = strategic.load(config)
    assert unit == pytest.approx(0.8)
    np.testing.assert_allclose(rows.targets, np.array([5, 7, 6, 8, 3, 6]) / 0.8)
    np.testing.assert_allclose(rows.wanted, np.array([6, 7, 6, 8, 6, 6]) / 0.8)
    np.testing.assert_array_equal(rows.inputs.min(0)[:-1], 0)
    np.testing.assert_array_equal(rows.inputs.max(0), 1)
    path.write_text("a;b\n1;2\n")
    with pytest.raises(ValueError, match="12 columns"):
        strategic.load(config)


def test_an_unknown_variant_is_answered_with_the_known_ones():
    with pytest.raises(LookupError, match="full, wine and quick, not 'mnist'"):
        configs.get_config("mnist")


@pytest.mark.parametrize(
    ("ours", "theirs", "many", "expected"),
    [
        (1.0, 1.01, 1.0, [True, True, True, True]),
        (1.03, 1.02, 1.03, [False, True, False, True]),
        (2.5, 1.0, 1.0, [False, False, True, False]),
        (1.0, 1.5, 1.0, [True, True, True, False]),
    ],
)
def test_its_claims_can_fail(ours, theirs, many, expected):
    errors = {
        "exact": np.ones((1, 2)),
        "ridge": np.full((1, 2), 2.0),
        "ridge, retrained": np.full((1, 2), 2.2),
        stackelberg_prediction.CENTERED: np.full((1, 2), ours),
    }
    measured = {"rows": 10, "learned": many, "exact": 1.0, "seconds": 1.0}
    found = stackelberg_prediction.claims(errors, (0.5,), measured, {0.5: (theirs, 2.0, 2.1)})
    assert [claim["holds"] for claim in found] == expected
    assert len(stackelberg_prediction.claims(errors, (0.5,), measured, {})) == 3
