"""Turned images against SciPy, intervals against their promise, and what the experiment writes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from scipy import stats

from configs.uncertain_response import get_config
from experiments import _intervals, _turned_digits, uncertain_response
from experiments._intervals import Intervals
from shohypernet import hyperparameters as hp
from shohypernet.batches import Examples


@pytest.mark.parametrize("degrees", [0.0, 37.0, 90.0, -140.0])
def test_images_are_turned_as_scipy_turns_them(degrees):
    """SciPy turns them counterclockwise."""
    image = np.zeros((14, 14))
    image[4:10, 4:9] = np.random.default_rng(0).uniform(size=(6, 5))  # away from the corners
    expected = scipy.ndimage.rotate(image, -degrees, reshape=False, order=1)
    turned = _turned_digits.turning(jnp.float32(np.radians(degrees))) @ image.ravel()
    np.testing.assert_allclose(turned.reshape(14, 14), expected, atol=1e-5)


def test_the_training_loss_is_that_of_turned_images(key):
    problem = _turned_digits.problem_on(get_config("quick"), hp.real())
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(196, 10)), "bias": rng.normal(size=10)}
    batch = Examples(rng.uniform(size=(5, 196)), np.array([3, 1, 4, 1, 5]))
    hyperparams = {"angle": 0.6, "decay": 0.01}
    single = jax.tree.map(jnp.float32, (params, hyperparams))
    found = problem.train_loss(*single, batch._replace(inputs=jnp.float32(batch.inputs)), key)
    turning = np.asarray(_turned_digits.turning(jnp.float32(0.6)), np.float64)
    logits = batch.inputs @ turning.T @ params["kernel"] + params["bias"]
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -np.mean(log_shares[np.arange(5), batch.targets])
    expected += 0.01 / 2 * np.sum(params["kernel"] ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_scaled_intervals_hold_as_many_as_they_promise():
    """Of losses that are anything but normal, around centers that are wrong."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.1, 2.0, size=4_199)
    losses = 5.0 + spread * rng.exponential(size=4_199)
    center, known = np.full(4_199, 4.0) + spread, slice(0, 199)
    of_known = losses[known], center[known], spread[known]
    found = _intervals.scaled(*of_known, center[199:], spread[199:], 0.9)
    # By exchangeability 90 % on average; with 199 known losses the coverage is a Beta(180, 20).
    low, high = stats.beta(180, 20).ppf((0.001, 0.999))
    assert low < found.hold(losses[199:]).mean() < high
    # Ten of 199 lie at or below the lower end, and at or above the upper.
    ratios = (losses[known] - center[known]) / spread[known]
    ends = [(end[0] - center[199]) / spread[199] for end in found]
    assert [np.sum(ratios <= ends[0] + 1e-9), np.sum(ratios >= ends[1] - 1e-9)] == [10, 10]


def test_too_few_models_are_refused():
    nine = np.arange(9.0)
    with pytest.raises(ValueError, match=r"9 models are too few for intervals of level 0\.9"):
        _intervals.scaled(nine, nine, nine + 1, nine, nine + 1, 0.9)


def test_the_posterior_s_own_intervals_are_quantiles():
    draws = np.random.default_rng(0).normal(size=(20_001, 2)) * [1.0, 3.0] + [0.0, 5.0]
    found = _intervals.of_draws(draws, 0.9)
    quantile = stats.norm.ppf(0.95)
    np.testing.assert_allclose(found.low, [-quantile, 5 - 3 * quantile], atol=0.15)
    np.testing.assert_allclose(found.width, [2 * quantile, 6 * quantile], rtol=0.05)
    np.testing.assert_allclose(_intervals.spread(draws, 4.0), [17**0.5, 5.0], rtol=0.02)


def made(low, high):
    """A kind of interval of two seeds, for four losses 0 … 3."""
    return [Intervals(np.array(low), np.array(high)), Intervals(np.zeros(4), np.full(4, 9.0))]


def test_the_summary_is_counted_by_hand():
    kinds = (uncertain_response.OWN, uncertain_response.SCALED)
    kinds += (uncertain_response.CONSTANT, uncertain_response.PROCESS)
    kinds += (uncertain_response.SCALED_FEW, uncertain_response.PROCESS_FEW)
    judged = [dict.fromkeys(kinds, each) for each in made([0, 2, 2, 2], [1, 3, 4, 4])]
    found = uncertain_response.summarize(judged, np.arange(4.0))[uncertain_response.SCALED]
    assert found == {
        "coverage": [0.75, 1.0],
        "width": [1.5, 9.0],
        "coverage, better half": [0.5, 1.0],
        "width, better half": [1.0, 9.0],
    }


def claimed(own=0.5, scaled=0.9, constant=1.0, process=1.0, few=0.9):
    """Verdicts where coverage or width of one kind is another."""
    rows = {
        uncertain_response.OWN: (own, 0.1),
        uncertain_response.SCALED: (scaled, 0.8),
        uncertain_response.CONSTANT: (0.9, constant),
        uncertain_response.PROCESS: (0.9, process),
        uncertain_response.SCALED_FEW: (few, 0.8),
        uncertain_response.PROCESS_FEW: (0.7, 0.5),
    }
    summary = {
        name: {"coverage": [share, share], "width": [width, width]}
        for name, (share, width) in rows.items()
    }
    return [claim["holds"] for claim in uncertain_response.claims(summary)]


def test_each_claim_can_fail_alone():
    assert claimed() == [True] * 5
    changes = {"scaled": 0.96}, {"own": 0.86}, {"constant": 0.7}, {"process": 0.7}, {"few": 0.8}
    for i, change in enumerate(changes):
        assert claimed(**change) == [j != i for j in range(5)]


def test_what_it_writes(tmp_path):
    config = get_config("quick")
    config.seeds = (0,)
    results = uncertain_response.run(config, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"uncertain_response.{end}" for end in ("png", "pdf", "npz")} | {"fit"}
    json.dumps(results)
    with np.load(tmp_path / "uncertain_response.npz") as arrays:
        assert arrays["losses"].shape == arrays["angle"].shape == (30,)
    assert 0 <= results["summary"]["scaled"]["coverage"][0] <= 1
