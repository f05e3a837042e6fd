"""The games against matrices, the ring's pieces against counting, and the judges."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import gan as configs
from experiments import _duopoly, _gan_games, _gan_players, _launch, gan
from experiments import _gan_ring as ring
from experiments._gan_games import ALTERNATING, GAMES, LEARNED, SIMULTANEOUS

CONFIG = pathlib.Path(configs.__file__)
ROUNDS = 60


@pytest.fixture(scope="module")
def config():
    return configs.get_config("quick")


def step_matrix(game, config, *, alternating):
    """A step of both players close to (0, 0), of the column (λ, w)."""
    step, slope, decay = config.step_size, game.slope, _gan_games.decay(game, config)
    follower = np.array([[1.0, 0.0], [step * slope, 1 - step * decay]])
    leader = np.array([[1.0, -step * slope], [0.0, 1.0]])
    return leader @ follower if alternating else leader + follower - np.eye(2)


def test_quick(tmp_path, monkeypatch):
    """Of one game and two contenders, of which nothing is claimed on the ring."""
    monkeypatch.setattr(gan, "GAMES", {"Dirac-GAN": GAMES["Dirac-GAN"]})
    folder = tmp_path / "new"
    contenders = gan.UNROLLED, gan.HYPER_TRAINED
    arguments = [f"--config={CONFIG}:quick", f"--workdir={folder}"]
    _launch.main(gan.run, [*arguments, f"--config.contenders={contenders!r}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 2
    names = {path.name for path in folder.iterdir()}
    pictures = {f"gan{part}.{ending}" for part in ("", "_samples") for ending in ("png", "pdf")}
    assert names == pictures | {"gan.npz", "config.json", "results.json"}
    assert [each["gradients"] for each in results["ring"].values()] == [340, 340]


@pytest.mark.parametrize("name", [SIMULTANEOUS, ALTERNATING])
def test_steps_of_the_bilinear_game_are_those_of_its_matrix(config, name):
    game = GAMES["bilinear"]
    method, steps = _gan_games.methods(_gan_games.build(game, config), config)[name]
    pair = _duopoly.paths(method, jnp.float32(0.1), (0,), ROUNDS, steps)
    matrix = step_matrix(game, config, alternating=name == ALTERNATING)
    last = np.linalg.matrix_power(matrix, ROUNDS) @ [0.1, 0.0]
    np.testing.assert_allclose([path[-1, 0] for path in pair], last, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_the_known_rate_is_the_eigenvalue_s(config, game):
    """And slopes are derivatives: here the step's matrix is a Jacobian, by finite differences."""
    problem = _gan_games.build(game, config)
    gradients = (
        jax.grad(lambda w, lam: problem.train_loss(w, lam, None, None)),
        jax.grad(lambda lam, w: problem.valid_loss(w, lam, None)),
    )

    def stepped(point):
        lam, w = jnp.float32(point)
        moved = gradients[1](lam, w), gradients[0](w, lam)
        return np.array(point) - config.step_size * np.array(moved)

    columns = [(stepped(unit) - stepped(-unit)) / 0.02 for unit in 0.01 * np.eye(2)]
    matrix = np.stack(columns, axis=1)
    np.testing.assert_allclose(matrix, step_matrix(game, config, alternating=False), atol=1e-5)
    rate = np.abs(np.linalg.eigvals(matrix)).max()
    assert rate == pytest.approx(_gan_games.growth(game, config), abs=1e-6)
    assert rate > 1.0001


def test_a_leader_who_learned_the_response_comes_to_the_equilibrium(config):
    config = config.copy_and_resolve_references()
    config.game_rounds = 400
    problem = _gan_games.build(GAMES["bilinear"], config)
    method, steps = _gan_games.methods(problem, config)[LEARNED]
    pair = _duopoly.paths(method, jnp.float32(0.1), (0, 1), 400, steps)
    assert np.hypot(*pair)[-1].max() < 0.01


def test_unrolled_steps_are_seen_and_taken_back(config):
    """V = λ w_3 − γ/2 w_3² with w_{k+1} = w_k + η (λ − γ w_k), by finite differences."""
    step, decay = config.step_size, _gan_games.decay(GAMES["bilinear"], config)
    problem = _gan_games.build(GAMES["bilinear"], config)
    method = _gan_players.unrolled(
        problem, 3, optimizer=optax.sgd(step), hyper_optimizer=optax.sgd(1.0)
    )
    state = method.init(jax.random.key(0), jnp.float32(0.5))
    nothing = jnp.zeros((3, 1)), jnp.zeros(1)
    after, info = jax.jit(method.step)(jax.random.key(0), state, *nothing)

    def value(lam):
        w = 0.0
        for _ in range(3):
            w += step * (lam - decay * w)
        return lam * w - decay / 2 * w**2

    slope = (value(0.5 + 1e-5) - value(0.5 - 1e-5)) / 2e-5
    assert float(state.hyperparams - after.hyperparams) == pytest.approx(slope, rel=1e-4)
    assert float(after.inner.params) == pytest.approx(step * 0.5)  # after the first step alone
    assert int(info.gradient_evaluations) == 3 * 3 + 2


def test_the_hypernet_reads_samples_and_not_weights(config):
    """Hidden units in another order make the same samples, and so the same discriminator."""
    hypernet = _gan_players.reading_samples(ring.build(config), config)
    params = ring.build(config).init(jax.random.key(0))
    weights = ring.generator(jax.random.key(1), config)
    order = np.arange(config.units)[::-1]
    (first, shift), (second, other), *last = weights
    shuffled = [(first[:, order], shift[order]), (second[order], other), *last]
    phi = hypernet.init(jax.random.key(2), params, weights)
    made, again = hypernet.apply(phi, weights), hypernet.apply(phi, shuffled)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), made, again)
    moved = jax.tree.map(lambda leaf: 1.5 * leaf, weights)
    changed = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), made, hypernet.apply(phi, moved))
    assert max(jax.tree.leaves(changed)) > 1e-5


def test_the_loss_is_that_of_goodfellow(config):
    problem = ring.build(config)
    params = problem.init(jax.random.key(0))
    weights = ring.generator(jax.random.key(1), config)
    batch = ring.batch(jax.random.key(2), 16, config)
    real, fake = batch[0], ring.generated(weights, batch[1])

    def logits(points):
        for name in ("layers_0", "layers_2"):
            points = np.maximum(points @ params[name]["kernel"] + params[name]["bias"][None], 0)
        return points @ params["layers_4"]["kernel"] + params["layers_4"]["bias"][None]

    expected = np.mean(np.log1p(np.exp(-logits(real)))) + np.mean(np.log1p(np.exp(logits(fake))))
    assert float(problem.train_loss(params, weights, batch, None)) == pytest.approx(expected, 1e-5)
    assert float(problem.valid_loss(params, weights, batch)) == pytest.approx(-expected, 1e-5)


def test_points_of_the_ring_are_all_good_and_cover_it():
    points = np.asarray(ring.examples(jax.random.key(0), 4_000, 0.02))
    found = ring.judged(points, 0.02)
    assert found.modes == 8
    assert found.good == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # Rayleigh's, at 3


def test_samples_are_counted_by_mode():
    on_mode = np.tile(ring.CENTERS[:3], (20, 1))  # 20 of each
    off = np.full((139, 2), 0.5)
    one = ring.CENTERS[5:6] + np.array([[0.0, 0.059]])  # within 0.06, but half a per cent
    found = ring.judged(np.concatenate([on_mode, off, one]), 0.02)
    assert found.modes == 3
    assert found.good == pytest.approx(61 / 200)


def test_a_rate_is_read_off_distances():
    assert gan.rate(0.1 * 1.01 ** np.arange(200.0)[:, None]) == pytest.approx(1.01)


def _trained(modes, good):
    quality = ring.Quality(np.array([[modes]]), np.array([[good]]))
    return gan.Trained(np.array([10]), np.array([[1.0]]), np.zeros((1, 1, 2, 2)), quality)


@pytest.mark.parametrize(("better", "expected"), [(1, True), (-1, False)])
def test_claims_about_the_ring_can_fail(better, expected):
    names = gan.ALTERNATING, gan.UNROLLED, gan.UNHEEDED
    trained = {name: _trained(5, 0.5) for name in names}
    trained[gan.HYPER_TRAINED] = _trained(5 + better, 0.5 + 0.1 * better)
    assert [claim["holds"] for claim in gan.ring_claims(trained)] == [expected] * 3


@pytest.mark.parametrize(("factor", "end", "expected"), [(1.01, 0.001, True), (1.02, 0.05, False)])
def test_claims_about_games_can_fail(factor, end, expected):
    distances = {
        ("a game", gan.SIMULTANEOUS): factor ** np.arange(100.0)[:, None],
        ("a game", gan.LEARNED): np.array([[1.0], [end]]),
    }
    found = gan.game_claims(distances, {"a game": 1.01})
    assert [claim["holds"] for claim in found] == [expected] * 2
