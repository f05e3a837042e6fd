"""Games at a small size, and their pieces against closed forms and plain counting."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import loaded

from configs import games as configs
from experiments import _duopoly, _launch, _zero_sum, games

CONFIG = pathlib.Path(configs.__file__)
PENNIES, ROCK = _zero_sum.GAMES.values()


@pytest.fixture(scope="module")
def config():
    config = configs.get_config("quick")
    config.update({"intercept": 12.0, "slope": 0.5, "cost": 3.0})
    return config


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(games.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 6
    names = {path.name for path in folder.iterdir()}
    assert names == {"games.png", "games.pdf", "games.npz", "config.json", "results.json"}
    arrays = loaded(folder / "games.npz")
    assert arrays["duopoly, local_response"].shape == (2, 6, 2)  # both firms, rounds, seeds


def test_an_unknown_variant_is_answered_with_the_known_ones():
    with pytest.raises(LookupError, match="full and quick, not 'idx'"):
        configs.get_config("idx")


def test_the_exact_quantities_are_those_of_the_best_responses(config):
    """By brute force over a grid of prices, without any of the closed forms."""
    grid = np.linspace(0, 30, 3_001)

    def profit(mine, other):
        return mine * (12 - 0.5 * (mine + other) - 3)

    def response(other):
        return grid[np.argmax(profit(grid, other))]

    leader, follower = _duopoly.stackelberg(config)
    responses = np.array([response(mine) for mine in grid])
    assert grid[np.argmax(profit(grid, responses))] == pytest.approx(leader, abs=0.02)
    assert response(leader) == pytest.approx(follower, abs=0.02)
    assert [response(other) for other in _duopoly.nash(config)] == pytest.approx(
        _duopoly.nash(config), abs=0.02
    )


def test_the_losses_are_what_the_firms_lose(config):
    problem = _duopoly.build(config)
    leader, follower = jnp.float32(5.0), jnp.float32(4.0)
    batch = jnp.zeros(1)
    margin = 12 - 0.5 * 9 - 3
    assert problem.train_loss(follower, leader, batch, None) == pytest.approx(-4 * margin)
    assert problem.valid_loss(follower, leader, batch) == pytest.approx(-5 * margin)


@pytest.mark.parametrize(
    ("name", "exact"),
    [("implicit", _duopoly.stackelberg), (_duopoly.GRADIENT_PLAY, _duopoly.nash)],
)
def test_who_knows_the_response_leads_and_who_does_not_ends_at_nash(config, name, exact):
    method = _duopoly.methods(_duopoly.build(config), config)[name]
    pair = _duopoly.paths(method, jnp.float32(1.0), (0, 1), 300, 10)
    for path, best in zip(pair, exact(config), strict=True):
        assert path.shape == (301, 2)
        np.testing.assert_allclose(path[-1], best, rtol=0.01)


@pytest.mark.parametrize("payoffs", [PENNIES, ROCK])
def test_fictitious_play_counts_actions(payoffs):
    """Against lists of actions and integer counts."""
    size = len(payoffs)
    mine, theirs = [0], [1]
    for _ in range(49):
        seen = [theirs.count(j) for j in range(size)]
        values = [sum(payoffs[i, j] * seen[j] for j in range(size)) for i in range(size)]
        seen = [mine.count(i) for i in range(size)]
        losses = [sum(payoffs[i, j] * seen[i] for i in range(size)) for j in range(size)]
        mine.append(values.index(max(values)))
        theirs.append(losses.index(min(losses)))
    p, q = _zero_sum.fictitious_play(payoffs, 50)
    for t in (1, 2, 17, 50):
        np.testing.assert_allclose(p[t - 1], [mine[:t].count(i) / t for i in range(size)])
        np.testing.assert_allclose(q[t - 1], [theirs[:t].count(j) / t for j in range(size)])


def test_best_response_dynamics_go_round():
    heads, tails = 0, 1
    p, q = _zero_sum.best_response_dynamics(PENNIES, 9)
    # The row player wants a match, the column player none.
    assert np.argmax(p, 1).tolist() == [
        heads,
        tails,
        tails,
        heads,
        heads,
        tails,
        tails,
        heads,
        heads,
    ]
    assert np.argmax(q, 1).tolist() == [
        tails,
        tails,
        heads,
        heads,
        tails,
        tails,
        heads,
        heads,
        tails,
    ]
    assert _zero_sum.period((p, q)) == 4
    assert _zero_sum.period((p[:3], q[:3])) is None


@pytest.mark.parametrize("payoffs", [PENNIES, ROCK])
def test_the_follower_of_a_leader_chooses_by_softmax(payoffs, key):
    problem = _zero_sum.leader_problem(payoffs, 0.5)
    logits = jax.random.normal(key, (len(payoffs),))
    p = np.asarray(jax.nn.softmax(logits))
    response = jnp.asarray(-payoffs.T @ p / 0.5, jnp.float32)
    gradient = jax.grad(problem.train_loss)(response, logits, jnp.zeros(1), key)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    other = jax.grad(problem.train_loss)(response + jnp.arange(len(p)), logits, jnp.zeros(1), key)
    assert np.max(np.abs(other)) > 0.01
    q = np.asarray(jax.nn.softmax(response))
    assert problem.valid_loss(response, logits, jnp.zeros(1)) == pytest.approx(-p @ payoffs @ q)


def _quantities(config, error):
    leader, follower = _duopoly.stackelberg(config)
    ends = {name: (leader, follower) for name in (*games.HYPER_TRAINED, *games.DIFFERENTIATED)}
    ends[_duopoly.GRADIENT_PLAY] = _duopoly.nash(config)
    return {
        name: tuple(np.full((2, 3), (1 + error) * best) for best in pair)
        for name, pair in ends.items()
    }


@pytest.mark.parametrize(("error", "holds"), [(0.009, True), (0.011, False)])
def test_claims_about_quantities_can_fail(config, error, holds):
    exact = _duopoly.stackelberg(config), _duopoly.nash(config)
    found = games.quantity_claims(_quantities(config, error), *exact)
    assert [claim["holds"] for claim in found] == [holds] * 3


@pytest.mark.parametrize(
    ("end", "turning", "expected"),
    [(0.51, True, [True, True, True]), (0.6, False, [False, False, False])],
)
def test_claims_about_strategies_can_fail(end, turning, expected):
    strategies = np.array([[1.0, 0.0], [end, 1 - end]])
    actions = np.eye(2)[[0, 1, 0, 1, 0] if turning else [0, 0, 0, 0, 0]]
    played = games.Played(
        (strategies, strategies), (actions, actions), (strategies, strategies), strategies[-1:]
    )
    found = games.strategy_claims({"a game": played})
    assert [claim["holds"] for claim in found] == expected
