"""Every method on every world at a small size; the worlds' answers and the judge by hand."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from archives import loaded
from jax.flatten_util import ravel_pytree

import shohypernet as shn
from configs import every_method as configs
from experiments import _every_method_cells as cells
from experiments import _every_method_plot as plot
from experiments import _every_method_verdicts as verdicts
from experiments import _launch, every_method
from experiments._every_method_cells import Cell
from experiments._every_method_reasons import REASONS
from experiments._every_method_verdicts import ARRIVED, ELSEWHERE, REFUSED, SHORT, Reason
from experiments._every_method_worlds import share_left

CONFIG = pathlib.Path(configs.__file__)


@pytest.fixture(scope="module")
def config():
    config = configs.get_config("quick")
    config.net.grid = config.regression.grid = 5
    return config


@pytest.fixture(scope="module", params=every_method.WORLDS)
def world(request, config):
    return every_method.WORLDS[request.param](config)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(every_method.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 3
    names = {path.name for path in folder.iterdir()}
    endings = {f"every_method.{ending}" for ending in ("png", "pdf", "npz")}
    assert names == endings | {"config.json", "results.json"}
    assert sum(results["main"].values()) == 6
    assert loaded(folder / "every_method.npz")["Dirac-GAN"].shape == (3,)
    # The library's own words, and where 1 in place of a curvature of 2 leads.
    refused = results["cells"]["duopoly"]["self_tuning"]
    assert refused["verdict"] == REFUSED
    assert "flax.linen.Module" in refused["why"]
    led = results["cells"]["duopoly"]["implicit, identity"]
    assert led["verdict"] == ELSEWHERE
    np.testing.assert_allclose(led["hyperparams"], 3.0, rtol=0.01)
    assert led["gradient_evaluations"] <= 2_000


def test_an_unknown_variant_is_answered_with_the_known_ones():
    with pytest.raises(LookupError, match="full and quick, not 'idx'"):
        configs.get_config("idx")


def test_the_loss_of_a_world_is_that_of_its_trained_weights(world):
    """G by closed forms, against L_valid of weights that gradient steps find."""
    problem = world.problem
    for hyperparams in (world.start, world.best):
        lam = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), hyperparams)
        optimizer = world.optimizer
        if not isinstance(optimizer, optax.GradientTransformation):
            optimizer = optimizer(lam)
        steps = 3_000 if world.answers == "the minimum" else world.steps
        trained = shn.train(
            problem, optimizer, jax.random.key(0), lam, world.data.train, steps=steps
        )
        found = problem.valid_loss(trained.params, lam, world.data.valid)
        assert float(found) == pytest.approx(world.loss(hyperparams), rel=2e-4, abs=1e-6)


def test_no_step_from_the_best_leads_down(world):
    """In any direction of unconstrained λ̂, of which there is none at the bounds."""
    space = world.problem.space
    like = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), world.best)
    codes, unravel = ravel_pytree(shn.hyperparameters.encode(space, like))
    least = world.loss(world.best)
    assert world.loss(world.start) > least + 0.01
    for direction in np.random.default_rng(0).normal(size=(20, codes.size)):
        moved = shn.hyperparameters.decode(space, unravel(codes + 0.1 * direction))
        assert world.loss(moved) >= least - 1e-4 * abs(least)


def test_shares_are_one_at_the_start_and_none_at_the_best(world):
    assert share_left(world, world.start) == pytest.approx(1)
    assert share_left(world, world.best) == 0
    lost = jax.tree.map(lambda leaf: np.full(np.shape(leaf), np.inf), world.best)
    assert np.isnan(share_left(world, lost))


def test_half_the_way_in_a_duopoly_is_a_quarter_of_its_loss(config):
    """G is quadratic in λ, of which 0.25 is the start and 1.5 the best."""
    world = every_method.WORLDS["duopoly"](config)
    ends = np.array([[0.875, 0.875, 1.5], [1.5, 1.375, 0.25], [np.nan, 1.5, 1.5]])
    found = cells.best(world, ends, [(0.1, 0.0), (0.2, 0.0), (0.3, 0.0)], (0, 1, 2))
    # Medians of (¼, ¼, 0) and (0, 1/100, 1); and what diverged for one seed is out.
    assert found.share == pytest.approx(0.01)
    assert found.pace["hyper_rate"] == 0.2
    np.testing.assert_array_equal(found.ends, ends[1])
    lost = cells.best(world, ends[2:], [(0.3, 0.0)], (0, 1, 2))
    assert np.isnan(lost.share)


def test_only_what_the_library_says_is_a_refusal():
    with pytest.raises(cells.Refused, match=r"needs a shn\.Problem"), cells.refusing():
        shn.simultaneous(None, None, hypernet_optimizer=None, hyper_optimizer=None)
    with pytest.raises(TypeError, match="unsupported operand"), cells.refusing():
        shn.samplers.gaussian(None + 1)
    with pytest.raises(TypeError, match="key type"), cells.refusing():
        shn.train(shn.Problem(None, None, None), optax.sgd(0.1), None, 0.1, None, steps=1)


KNOWN = (
    Reason(("a",), ("here",), elsewhere=True, why="to Nash"),
    Reason(("a", "b"), (), elsewhere=False, why="too slow"),
)


@pytest.mark.parametrize(
    ("cell", "method", "world", "verdict", "why"),
    [
        (Cell(0.009), "b", "here", ARRIVED, ""),
        (Cell(0.011), "b", "here", SHORT, "too slow"),
        (Cell(0.011), "c", "here", SHORT, ""),
        (Cell(np.nan), "b", "here", SHORT, "too slow"),
        (Cell(np.nan, "needs λ."), "a", "here", REFUSED, "needs λ."),
        (Cell(0.0, ends=1.0), "a", "here", ELSEWHERE, "to Nash"),
        (Cell(0.5), "a", "there", SHORT, "too slow"),
    ],
)
def test_verdicts_by_hand(cell, method, world, verdict, why):
    found = verdicts.judge(cell, method, world, KNOWN)
    assert (found.verdict, found.why) == (verdict, why)


def _table(share, end, name="c"):
    other = verdicts.judge(Cell(0.2, ends=np.array([end])), "a", "here", KNOWN, 2.0)
    return {"here": {name: verdicts.judge(Cell(share), name, "here", KNOWN), "a": other}}


@pytest.mark.parametrize(
    ("share", "end", "expected"),
    # A method that aims elsewhere in the only world arrives nowhere.
    [(0.001, 2.01, [True, False, True]), (0.5, 2.1, [False, False, False])],
)
def test_claims_can_fail(share, end, expected):
    table = _table(share, end)
    assert [claim["holds"] for claim in every_method.claims(table)] == expected
    there = _table(share, end)["here"] | {"a": verdicts.judge(Cell(0.0), "a", "there", KNOWN)}
    both = every_method.claims(table | {"there": there})
    assert both[1]["holds"] == (share < 0.01)
    assert ("c on here" in both[0]["measured"]) == (share > 0.01)


def test_the_table_says_what_is_left_and_why():
    table = _table(0.5, 2.0, name="b")
    lines = every_method.shown(table).splitlines()
    assert [line.split() for line in lines] == [
        ["share", "left", "here"],
        ["b", ">", "0.5"],
        ["a", "≠", "0.2"],
    ]
    assert every_method.explained(table) == "> too slow\n    b on here\n≠ to Nash\n    a on here"


def test_every_reason_is_of_a_known_cell():
    methods = {*every_method.METHODS, *every_method.SEARCHES}
    for reason in REASONS:
        assert set(reason.methods) <= methods
        assert set(reason.worlds) <= set(every_method.WORLDS)
        assert reason.why.endswith(".")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.244, "0.24"),
        (0.001, "0.001"),
        (3.2e-5, "3e-5"),
        (3.6e36, "4e36"),
        (1e-12, "<1e-8"),
        (-1e-9, "<1e-8"),
        (np.nan, "diverged"),
    ],
)
def test_shares_in_a_few_characters(share, text):
    assert plot.shown(share) == text
