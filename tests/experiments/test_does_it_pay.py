"""Everybody's decays at a small size, and the judge of them."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from configs import does_it_pay as configs
from experiments import _decay_finders, _decay_problem, _launch, does_it_pay
from shohypernet.batches import Data, Examples

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    arguments = [f"--config={CONFIG}:quick", "--config.seeds=(0,)", f"--workdir={folder}"]
    _launch.main(does_it_pay.run, arguments)
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 2
    rows = results["tested"]["784-5-10"]
    ours, folded = (f"{kind}, by weight" for kind in (_decay_finders.OURS, _decay_finders.FOLDED))
    assert {*rows} == {"set unseen, 1e-04", "random, 1 trainings", ours, folded}
    steps = configs.get_config("quick").training.steps
    assert rows["random, 1 trainings"]["evaluations"] == steps
    # Two folds cost as much as two runs, and train on half of the images, as one run does.
    one, folded = (
        rows[f"{kind}, by weight"] for kind in (_decay_finders.OURS, _decay_finders.FOLDED)
    )
    assert folded["evaluations"] == 2 * one["evaluations"]
    assert (folder / "does_it_pay.png").exists()


@pytest.mark.parametrize(
    ("layer", "folded", "expected"),
    [
        (0.3, 0.1, [True, True, True]),
        (0.4, 0.3, [False, False, True]),
        (0.3, 0.6, [True, False, False]),
    ],
)
def test_claims_compare_with_the_best_search_seed_by_seed(layer, folded, expected):
    wiggle = np.array([-0.001, 0.0, 0.001])

    def row(loss, evaluations=100.0):
        seeds = loss + wiggle * (1 if evaluations else 50)
        return {"evaluations": evaluations, "loss": seeds + 0.01, "loss, over n": seeds}

    rows = {
        "set unseen, 1e-04": row(0.05, 0),  # which is no search
        "random, 1 trainings": row(0.5),
        "TPE, 3 trainings": row(0.3),
        "hyper-training, by layer": row(layer),
        "hyper-training, by weight": row(0.5),
        "hyper-training, folds, by layer": row(0.5),
        "hyper-training, folds, by weight": row(folded),
    }
    rows["hyper-training, by layer"]["loss, over n"] += np.array([0.001, -0.001, 0.0])
    found = does_it_pay.claims("784-10", rows)
    assert [claim["holds"] for claim in found] == expected
    assert "best of all searches (TPE, 3 trainings) 0.30000" in found[0]["measured"]


def test_decays_of_layers_are_spread_over_their_weights():
    examples = Examples(jnp.zeros((2, 3)), jnp.zeros((2, 10)))
    problem = _decay_problem.problem_on(Data(examples, examples), (4,))
    decays = _decay_problem.decays(problem, 0.0, "layer")
    by_seed = {name: jnp.array([1.0, 2.0]) + 10 * i for i, name in enumerate(decays)}
    found = _decay_finders._by_weight(problem, by_seed)
    assert found["Dense_0"]["kernel"].shape == (2, 3, 4)
    np.testing.assert_array_equal(found["Dense_1"]["bias"], [[11.0] * 10, [12.0] * 10])
