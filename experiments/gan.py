"""Generators and discriminators as leaders and followers: two small games, and a ring of Gaussians.

A discriminator is a generator's follower, and its best response can be learned. See `_gan_games`
for games whose rates are known, and `_gan_players` for a hypernet that reads the generator's
samples.

python -m experiments.gan --config=configs/gan.py --workdir=DIR
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _duopoly, _gan_games, _gan_players, _gan_plot, _launch, _plots, _results
from experiments import _gan_ring as ring
from experiments._gan_games import GAMES, LEARNED, SIMULTANEOUS
from experiments._gan_players import ALTERNATING, HYPER_TRAINED, UNHEEDED, UNROLLED, Player
from shohypernet.problem import Problem

NAME = "gan"
NEAR = 0.05  # of a known exponent, relative


class Trained(NamedTuple):
    """A contender's runs on the ring, E checkpoints of S seeds.

    Attributes:
      gradients: gradient evaluations at each checkpoint, shape (E,).
      seconds: of processor time, of each seed, compilation apart, shape (E, S).
      samples: shape (E, S, n, 2).
      quality: of them, leaves of shape (E, S).
    """

    gradients: np.ndarray
    seconds: np.ndarray
    samples: np.ndarray
    quality: ring.Quality


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Play the games, train on the ring, and draw distances, qualities and samples."""
    del resume  # its parts are short
    distances = games(config)
    trained = on_ring(config)
    known = {name: _gan_games.growth(game, config) for name, game in GAMES.items()}
    _plots.save_figure(_gan_plot.draw(distances, known, trained), workdir, NAME)
    _plots.save_figure(_gan_plot.draw_samples(trained), workdir, f"{NAME}_samples")
    arrays = {f"{game}, {name}": each for (game, name), each in distances.items()}
    for name, each in trained.items():
        arrays |= {
            f"{name}: modes": each.quality.modes,
            f"{name}: good": each.quality.good,
            f"{name}: gradients": each.gradients,
            f"{name}: seconds": each.seconds,
            f"{name}: samples of the first seed": each.samples[:, 0],
        }
    _results.save_arrays(workdir, NAME, arrays)
    return {
        "main": {f"modes, {name}": float(last(each)[0].mean()) for name, each in trained.items()}
        | {f"good samples, {name}": float(last(each)[1].mean()) for name, each in trained.items()},
        "claims": [*game_claims(distances, known), *ring_claims(trained)],
        "ring": {
            name: {
                "modes": last(each)[0].tolist(),
                "good": last(each)[1].tolist(),
                "seconds": each.seconds[-1].tolist(),
                "gradients": int(each.gradients[-1]),
            }
            for name, each in trained.items()
        },
    }


def games(config: Any) -> dict[tuple[str, str], np.ndarray]:
    """Distances from the equilibrium after each round, shape (R + 1, S), by game and method."""
    found = {}
    for game_name, game in GAMES.items():
        problem = _gan_games.build(game, config)
        for name, (method, steps) in _gan_games.methods(problem, config).items():
            start = jnp.float32(config.start)
            pair = _duopoly.paths(method, start, config.seeds, config.game_rounds, steps)
            found[game_name, name] = np.hypot(*pair)
    return found


def on_ring(config: Any) -> dict[str, Trained]:
    """All contenders, with one and the same number of gradients."""
    problem = ring.build(config)
    trained = {}
    for name, player in _gan_players.players(problem, config).items():
        trained[name] = train(problem, player, config)
        modes, good = (each.round(2).tolist() for each in last(trained[name]))
        seconds = trained[name].seconds[-1].mean()
        print(f"{name}: modes {modes}, good samples {good}, {seconds:.0f} s a seed", flush=True)
    return trained


def train(problem: Problem, player: Player, config: Any) -> Trained:
    """One contender's runs, seed by seed."""
    rounds = config.gradients // player.evaluations // config.checkpoints
    latents = jax.random.normal(jax.random.key(0), (config.judged_samples, config.latent))

    def round_of(state: Any, key: jax.Array) -> tuple[Any, None]:
        key_train, key_valid, key_step = jax.random.split(key, 3)
        drawn = ring.batch(key_train, player.inner_steps * config.batch, config)
        batches = jax.tree.map(
            lambda leaf: leaf.reshape(player.inner_steps, config.batch, -1), drawn
        )
        valid = ring.batch(key_valid, config.batch, config)
        return player.method.step(key_step, state, batches, valid)[0], None

    @jax.jit
    def rounds_of(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        state, _ = jax.lax.scan(round_of, state, jax.random.split(key, rounds))
        return state, ring.generated(state.hyperparams, latents)

    @jax.jit
    def first(key: jax.Array) -> Any:
        key_generator, key_method = jax.random.split(key)
        return player.method.init(key_method, ring.generator(key_generator, config))

    compiled = rounds_of.lower(first(jax.random.key(0)), jax.random.key(0)).compile()
    seconds, samples = [], []
    for seed in config.seeds:
        key_first, key_rounds = jax.random.split(jax.random.key(seed))
        state, passed = first(key_first), 0.0
        for key in jax.random.split(key_rounds, config.checkpoints):
            began = time.process_time()
            state, made = jax.block_until_ready(compiled(state, key))
            passed += time.process_time() - began
            seconds.append(passed)
            samples.append(np.asarray(made))
    shape = len(config.seeds), config.checkpoints
    every = np.stack(samples).reshape(*shape, *samples[0].shape).swapaxes(0, 1)
    gradients = rounds * player.evaluations * np.arange(1, config.checkpoints + 1)
    return Trained(
        gradients,
        np.reshape(seconds, shape).T,
        every,
        ring.judged(every, config.deviation),
    )


def last(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Modes and shares of good samples at the end, each of shape (S,)."""
    return trained.quality.modes[-1], trained.quality.good[-1]


def game_claims(
    distances: dict[tuple[str, str], np.ndarray], known: dict[str, float]
) -> list[dict[str, Any]]:
    """Claims about the rates of the two games."""
    measured = {name: rate(distances[name, SIMULTANEOUS]) for name in known}
    ends = {
        name: float(np.max(distances[name, LEARNED][-1] / distances[name, LEARNED][0]))
        for name in known
    }
    return [
        _results.claim(
            "Simultaneous steps leave the equilibrium by √(1 − ηγ + η²c²) a step, the exponent "
            "within 5 %.",
            "; ".join(
                f"{name} {measured[name]:.6f}, known {each:.6f}" for name, each in known.items()
            ),
            holds=all(
                abs(np.log(measured[name]) / np.log(each) - 1) <= NEAR
                for name, each in known.items()
            ),
        ),
        _results.claim(
            "With a learned response the leader and the follower come to it, within a hundredth of "
            "the distance that they started from, every seed.",
            ", ".join(f"{name} {each:.1g}" for name, each in ends.items()),
            holds=max(ends.values()) <= 0.01,
        ),
    ]


def rate(distances: np.ndarray) -> float:
    """Mean factor of a round, over the second half of the rounds."""
    half = len(distances) // 2
    logs = np.log(distances[half:].mean(1))
    return float(np.exp(np.polyfit(np.arange(len(logs)), logs, 1)[0]))


def ring_claims(trained: dict[str, Trained]) -> list[dict[str, Any]]:
    """Claims about modes and good samples at the end, at equal gradients, of all contenders."""
    if not {ALTERNATING, UNROLLED, HYPER_TRAINED, UNHEEDED} <= trained.keys():
        return []

    def shown(*names: str) -> str:
        parts = []
        for name in names:
            modes, good = last(trained[name])
            seconds = trained[name].seconds[-1].mean()
            parts.append(
                f"{name} {_results.mean_and_range(modes, 1)} modes, "
                f"{_results.mean_and_range(good, 2)} good, {seconds:.0f} s"
            )
        return "; ".join(parts)

    modes, good = (
        {name: last(each)[place].mean() for name, each in trained.items()} for place in (0, 1)
    )
    rivals = ALTERNATING, UNROLLED
    return [
        _results.claim(
            "On the ring a hyper-trained discriminator keeps more modes than alternating and "
            "unrolled steps, at equal numbers of gradients (means of the seeds).",
            shown(HYPER_TRAINED, *rivals),
            holds=all(modes[HYPER_TRAINED] > modes[name] for name in rivals),
        ),
        _results.claim(
            "Its generator has more good samples than theirs, too.",
            shown(HYPER_TRAINED, *rivals),
            holds=all(good[HYPER_TRAINED] > good[name] for name in rivals),
        ),
        _results.claim(
            "It is the response that keeps modes: a generator who doesn't heed it has fewer.",
            shown(HYPER_TRAINED, UNHEEDED),
            holds=bool(modes[HYPER_TRAINED] > modes[UNHEEDED]),
        ),
    ]


if __name__ == "__main__":
    _launch.main(run)
