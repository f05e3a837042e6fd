"""The groups of weights by hand, the exact optimum, the accounting, and the claims."""

import numpy as np
import pytest

from configs.search_baselines import get_config
from experiments import _decay_problem, _grouped_decays, _search_claims, _search_contenders
from experiments._grouped_decays import grouping
from experiments._search_contenders import Curve
from shohypernet import ridge
from shohypernet.batches import SplitLosses


def test_groups_of_weights():
    assert np.unique(grouping(1)).tolist() == [0]
    assert grouping(2)[0].tolist() == [0] * 5 + [1] * 5
    assert grouping(5)[784].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert np.all(grouping(10) == np.arange(10))
    bands = grouping(50)
    assert bands.shape == (785, 10)
    assert bands[0].tolist() == list(range(10))
    assert bands[783].tolist() == list(range(40, 50))
    assert bands[784].tolist() == list(range(20, 30))  # the bias is in the middle
    # 28 rows in five bands, of six rows or five.
    assert np.unique(bands[:784:28, 0], return_counts=True)[1].tolist() == [6, 6, 5, 6, 5]
    assert len(np.unique(grouping(7_850))) == 7_850


@pytest.mark.parametrize("count", [3, 25, 290, 7_849])
def test_other_numbers_of_decays_are_refused(count):
    with pytest.raises(ValueError, match=f"must divide 10.*got {count}"):
        grouping(count)


@pytest.fixture(scope="module")
def data():
    config = get_config("quick")
    config.seeds, config.points = (0, 1), 5
    return config, _decay_problem.load_data(config)


def test_the_optimum_of_one_decay_is_ridges(data):
    exact = ridge.ridge(data[1])
    found = _grouped_decays.optimum(exact, grouping(1))
    scalar = ridge.optimum(exact, -5.0)
    expected = ridge.losses(exact, ridge.best_response(exact, scalar))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_penalty_is_that_of_each_weights_own_group(data, key):
    _, data = data
    groups = grouping(50)
    problem = _grouped_decays.problem_on(data, groups, -10.0, 2.0)
    params = problem.init(key)
    log_decays = np.linspace(-3, 1, 50).astype(np.float32)
    loss = problem.train_loss(params, np.exp(log_decays), data.train, key)
    weights = _decay_problem.to_ridge(params)
    penalty = np.sum(np.exp(np.float64(log_decays))[groups] * weights**2) / 10
    inputs, targets = map(np.asarray, data.train)
    residuals = inputs @ weights[:-1] + weights[-1] - targets
    np.testing.assert_allclose(loss, np.mean(residuals**2) + penalty, rtol=1e-5)


def test_methods_spend_the_same_and_report_the_best_so_far(data):
    config, data = data
    problem = _grouped_decays.problem_on(data, grouping(2), config.low, config.high)
    found = _search_contenders.methods(problem, data, 2, config)
    assert len(found) == 9
    for name in (_search_contenders.OURS, "random search"):
        curve = found[name]()
        assert curve.valid_loss.shape == curve.test_loss.shape == (2, 5)
        ends = curve.valid_loss[:, -1]
        assert np.all(np.isfinite(ends))
        assert np.all(np.diff(np.nan_to_num(curve.valid_loss, nan=np.inf), axis=1) <= 0)
        # Whole rounds between the points leave less than the way between two of them.
        assert 0 <= config.budget - curve.evaluations[-1] < config.budget / config.points


def made(*losses):
    """A curve of one seed."""
    losses = np.array([losses])
    count = losses.shape[1]
    return Curve(np.arange(1, count + 1) * 10, np.arange(count), losses, losses + 1)


@pytest.mark.parametrize(
    ("ours", "holds"),
    [((9, 3, 2, 2, 2, 2, 2, 2, 2, 2), False), ((5, 3, 2, 2, 2, 2, 2, 2, 2, 2), True)],
)
def test_the_papers_claim_is_judged_from_the_first_tenth_on(ours, holds):
    other = (8.0, 8, 8, 8, 8, 8, 8, 3, 3, 3)
    curves = {_search_contenders.OURS: made(*map(float, ours)), "TPE": made(*other)}
    claim = _search_claims.below_all(10, curves)
    assert claim["holds"] is holds
    assert "ends at 2.00000 (test 3.00000), and TPE" in claim["measured"]


@pytest.mark.parametrize(
    ("excess", "holds"),
    [([3.0, 3.0, 1.0], True), ([3.0, 1.0, 3.0], False), ([1.0] * 3, False), ([3.0] * 3, False)],
)
def test_the_claim_of_many_decays_needs_one_crossing(excess, holds):
    optima = dict.fromkeys((1, 2, 5), SplitLosses(0.0, 0.0, 0.0))
    curves = {
        count: {_search_contenders.OURS: made(value), "TPE": made(2.0)}
        for count, value in zip(optima, excess, strict=True)
    }
    assert _search_claims.many_decays(curves, optima)["holds"] is holds
