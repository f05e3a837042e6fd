"""Costs by hand, claims that can fail, and the contenders on few images."""

import numpy as np
import pytest

from configs.exploration import get_config
from experiments import _exploration_plot, _explorers, _plots, _turned_digits, exploration
from experiments._explorers import (
    BAYESIAN,
    GLOBAL,
    LOCAL,
    MEAN,
    OPTIMISTIC,
    RANDOM,
    THOMPSON,
    Course,
)
from shohypernet import hyperparameters as hp


@pytest.fixture(scope="module")
def config():
    return get_config("quick")


def test_costs_are_those_of_the_methods(config):
    """Two λ, five updates, four candidates."""
    assert [_explorers.cost(name, config) for name in (GLOBAL, LOCAL, THOMPSON)] == [10, 11, 17]
    assert _explorers.rounds(LOCAL, config) == 36
    assert _explorers.rounds(GLOBAL, config) == 42  # 39 of the first phase, 4 of the second
    for name in (OPTIMISTIC, MEAN):
        assert _explorers.rounds(name, config) == 22


def test_contenders_spend_what_the_budget_allows(config, tmp_path):
    data = _turned_digits.load_data(config)
    made = _explorers.contenders(data, config)
    assert list(made) == [GLOBAL, LOCAL, THOMPSON, OPTIMISTIC, MEAN, BAYESIAN, RANDOM]
    course = made[THOMPSON]()
    assert course.valid_loss.shape == course.angle.shape == (2, 3)
    assert course.evaluations.tolist() == [0, 187, 374]
    searched = made[RANDOM]()
    assert searched.evaluations.tolist() == list(range(20, 401, 20))
    assert np.all(np.diff(searched.valid_loss, axis=1) <= 0)
    problem = _turned_digits.problem_on(config, hp.real())
    assert _explorers.method(problem, MEAN, config).problem is problem
    courses = {THOMPSON: course, RANDOM: searched}
    found, landscape = exploration.train_again(data, courses, config)
    assert [len(each) for each in landscape] == [10, 10]
    assert [len(losses) for both in found.values() for losses in both] == [2] * 4
    figure = _exploration_plot.draw(courses, found, landscape, config)
    _plots.save_figure(figure, tmp_path, "exploration")
    assert (tmp_path / "exploration.png").exists()


def course(*degrees):
    angle = np.radians(np.atleast_2d(degrees))
    steps = np.arange(angle.shape[1]) * 100
    return Course(steps, steps / 10, angle * 0, angle, angle * 0)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        ((0, 120, 110, 115 + 360), 100.0),
        ((120, 0, 110, 115), 200.0),
        ((0, -250, -260, 90), np.nan),
        ((0, 0, 0, -244), 300.0),
    ],
)
def test_the_angle_is_reached_when_it_stays(degrees, expected, config):
    np.testing.assert_array_equal(exploration.cost_to_reach(course(*degrees), config), [expected])


def claimed(**changes):
    """Verdicts where losses or costs of some contenders are others."""
    costs = {GLOBAL: np.nan, LOCAL: np.nan, THOMPSON: 10.0, OPTIMISTIC: 20.0, MEAN: 30.0}
    costs |= {BAYESIAN: 50.0, RANDOM: 60.0}
    losses = dict.fromkeys(costs, 1.0)
    costs |= {name: cost for name, cost in changes.get("costs", {}).items()}
    losses |= {name: loss for name, loss in changes.get("losses", {}).items()}
    arrays = ({name: np.full(2, each) for name, each in tree.items()} for tree in (losses, costs))
    return [claim["holds"] for claim in exploration.claims(*arrays)]


def test_each_claim_can_fail():
    assert claimed() == [True] * 5
    for number, change in enumerate(
        [
            {"costs": {LOCAL: 5.0}},
            {"costs": {OPTIMISTIC: np.nan, MEAN: np.nan}},
            {"costs": {BAYESIAN: 15.0}},
            {"losses": {THOMPSON: 1.02}},
            {"costs": {MEAN: 15.0}},
        ]
    ):
        assert claimed(**change)[number] is False
