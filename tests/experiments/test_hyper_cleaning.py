"""Hyper-cleaning at a small size, and its pieces."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from configs import hyper_cleaning as configs
from experiments import _cleaning_contenders, _launch, _noisy_labels, hyper_cleaning
from experiments._noisy_labels import Found
from experiments.hyper_cleaning import Outcome

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(hyper_cleaning.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    pictures = {f"hyper_cleaning.{ending}" for ending in ("png", "pdf", "npz")}
    names = {path.name for path in folder.iterdir()}
    assert names == pictures | {"fit", "config.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 4
    outcomes = results["outcomes"]
    methods = set(_cleaning_contenders.contenders(configs.get_config("quick")))
    assert {name for name, (each,) in outcomes.items() if "seconds" in each} == methods
    # A budget of 40 gradients of all images, or of twice as many of half of them.
    for name in methods:
        assert 0 < outcomes[name][0]["passes"] <= 40, name
    assert outcomes["SOBA"][0]["passes"] == outcomes["SABA"][0]["passes"] == 40


def test_exactly_half_the_labels_are_another_class_and_the_images_are_numbered(data):
    found, wrong = _noisy_labels.corrupted(data, 3)
    assert wrong.sum() == 30
    before, after = (np.argmax(split.targets, 1) for split in (data.train, found.train))
    np.testing.assert_array_equal(before != after, wrong)
    np.testing.assert_array_equal(found.train.numbers, np.arange(60))
    assert (found.train.inputs, found.valid, found.test) == (
        data.train.inputs,
        data.valid,
        data.test,
    )
    assert (_noisy_labels.corrupted(data, 4)[1] != wrong).any()


def test_f1_and_auc_against_scikit_learn():
    rng = np.random.default_rng(0)
    wrong = rng.uniform(size=40) < 0.4
    scores = np.round(rng.normal(size=40) + wrong, 1)  # with ties
    found = _noisy_labels.found(scores > 0.5, scores, wrong)
    assert found.f1 == pytest.approx(metrics.f1_score(wrong, scores > 0.5))
    assert found.auc == pytest.approx(metrics.roc_auc_score(wrong, scores))


def test_images_of_weight_zero_are_as_if_they_were_not_there(data):
    config = configs.get_config("quick")
    train = _noisy_labels.trainer(_noisy_labels.corrupted(data, 0)[0], config)
    valid = np.ones(50)
    alone = train(np.zeros(60), valid, 1e-3)
    # Other wrong labels, and weights in another unit.
    other = _noisy_labels.trainer(_noisy_labels.corrupted(data, 1)[0], config)
    np.testing.assert_allclose(
        alone["Dense_0"]["kernel"],
        other(np.zeros(60), 5 * valid, 1e-3)["Dense_0"]["kernel"],
        rtol=1e-5,
        atol=1e-6,
    )
    both = train(np.ones(60), valid, 1e-3)
    assert jnp.max(jnp.abs(both["Dense_0"]["kernel"] - alone["Dense_0"]["kernel"])) > 1e-2


def outcomes(ours=0.91, f1=0.95, alone=0.90, oracle=0.912, filtered=0.905):
    rivals = {
        hyper_cleaning.ALL: 0.8,
        hyper_cleaning.BOTH: 0.85,
        hyper_cleaning.ALONE: alone,
        hyper_cleaning.ORACLE: oracle,
        hyper_cleaning.FILTER: filtered,
    }
    made = {name: [Outcome(accuracy)] * 2 for name, accuracy in rivals.items()}
    made[_cleaning_contenders.JUDGED] = [Outcome(ours, found=Found(f1, 0.97))] * 2
    return made


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, [True] * 4),
        ({"f1": 0.90}, [False, True, True, True]),
        ({"alone": 0.91}, [True, False, True, True]),
        ({"oracle": 0.92}, [True, True, False, True]),
        ({"filtered": 0.92}, [True, True, True, False]),
    ],
)
def test_its_claims_can_fail(changed, expected):
    found = hyper_cleaning.claims(outcomes(**changed))
    assert [claim["holds"] for claim in found] == expected
