"""Games whose equilibria are known: a duopoly, matching pennies, rock-paper-scissors.

A leader who moves first and a follower who responds are a bilevel problem; a hypernet learns the
follower's response, and the leader descends through it. See `_duopoly` and `_zero_sum`.

python -m experiments.games --config=configs/games.py --workdir=DIR
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _duopoly, _games_plot, _launch, _plots, _results, _zero_sum
from experiments._zero_sum import GAMES

NAME = "games"
WITHIN = 0.01  # of the exact quantity, relative
NEAR = 0.02  # of the exact frequency of an action
HYPER_TRAINED = "local_response", "global_response", "centered_response"
DIFFERENTIATED = "implicit", "unrolled"


class Played(NamedTuple):
    """Strategies of both players of a zero-sum game, by way of learning: pairs (T, n) and (T, m).

    Attributes:
      fictitious: frequencies of fictitious play.
      responses: actions of best-response dynamics.
      led: strategies of a leader who learned its follower's response, and of that follower; the
        first seed's.
      ends: the leader's last strategy, shape (S, n).
    """

    fictitious: tuple[np.ndarray, np.ndarray]
    responses: tuple[np.ndarray, np.ndarray]
    led: tuple[np.ndarray, np.ndarray]
    ends: np.ndarray


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Play all games, draw their paths, and hold their ends against the equilibria."""
    del resume  # it takes a minute
    quantities = duopoly(config)
    played = {name: zero_sum(payoffs, config) for name, payoffs in GAMES.items()}
    exact = _duopoly.stackelberg(config), _duopoly.nash(config)
    figure = _games_plot.draw(quantities, *exact, played, _margin(config))
    _plots.save_figure(figure, workdir, NAME)
    arrays = {f"duopoly, {name}": np.stack(pair) for name, pair in quantities.items()}
    for name, each in played.items():
        for way, pair in each._asdict().items():
            parts = pair if isinstance(pair, tuple) else (pair,)
            arrays |= {f"{name}, {way} {i}": part for i, part in enumerate(parts)}
    _results.save_arrays(workdir, NAME, arrays)
    return {
        "main": {
            f"leader, {name}": leader[-1].tolist() for name, (leader, _) in quantities.items()
        },
        "claims": [*quantity_claims(quantities, *exact), *strategy_claims(played)],
        "quantities": {
            name: [part[-1].tolist() for part in pair] for name, pair in quantities.items()
        },
        "frequencies": {
            name: [part[-1].tolist() for part in each.fictitious] for name, each in played.items()
        },
    }


def duopoly(config: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Quantities of leader and follower after each round, shape (R + 1, S), by method."""
    problem = _duopoly.build(config)
    found = {}
    for name, method in _duopoly.methods(problem, config).items():
        print(f"Duopoly: {name}.")
        restarts = name == "unrolled"
        inner_steps = config.unrolled_steps if restarts else config.inner_steps
        start = jnp.float32(config.start)
        found[name] = _duopoly.paths(method, start, config.seeds, config.rounds, inner_steps)
    return found


def zero_sum(payoffs: np.ndarray, config: Any) -> Played:
    """One game, learned in three ways."""
    problem = _zero_sum.leader_problem(payoffs, config.temperature)
    method = shn.local_response(
        problem,
        shn.hypernets.linear(init_scale=shn.hypernets.PAPER_INIT_SCALE),
        hypernet_optimizer=optax.adam(config.hypernet_learning_rate),
        hyper_optimizer=optax.sgd(config.leader_learning_rate),
        sampler=shn.samplers.local_gaussian(config.leader_sampling_scale),
    )
    start = jnp.linspace(1.0, -1.0, len(payoffs))  # far from playing all actions alike
    logits = _duopoly.paths(method, start, config.seeds, config.leader_rounds, config.inner_steps)
    leader, follower = (np.asarray(jax.nn.softmax(each, axis=-1)) for each in logits)
    return Played(
        _zero_sum.fictitious_play(payoffs, config.plays),
        _zero_sum.best_response_dynamics(payoffs, config.plays),
        (leader[:, 0], follower[:, 0]),
        leader[-1],
    )


def quantity_claims(
    quantities: dict[str, tuple[np.ndarray, np.ndarray]],
    stackelberg: tuple[float, float],
    nash: tuple[float, float],
) -> list[dict[str, Any]]:
    """Claims about where the firms of the duopoly end, every seed."""

    def judged(sentence: str, names: tuple[str, ...], exact: tuple[float, float]) -> dict[str, Any]:
        errors = {name: _relative_error(quantities[name], exact) for name in names}
        shown = "; ".join(f"{name} {error:.2g} %" for name, error in errors.items())
        measured = f"largest error of a seed: {shown}"
        return _results.claim(sentence, measured, holds=max(errors.values()) <= 100 * WITHIN)

    leader, follower = stackelberg
    at = f"(a − c)/(2b) = {leader:g} and (a − c)/(4b) = {follower:g}"
    return [
        judged(
            f"With a learned best response the leader and the follower end at {at}, within 1 %.",
            HYPER_TRAINED,
            stackelberg,
        ),
        judged(
            "So they do by implicit differentiation and by unrolling.", DIFFERENTIATED, stackelberg
        ),
        judged(
            "Gradient play, Algorithm 4 with a hypernet that answers to nothing, ends at "
            f"(a − c)/(3b) = {nash[0]:g}, within 1 %.",
            (_duopoly.GRADIENT_PLAY,),
            nash,
        ),
    ]


def strategy_claims(played: dict[str, Played]) -> list[dict[str, Any]]:
    """Claims about strategies in the zero-sum games."""
    frequencies = {
        name: _distance(*(path[-1] for path in each.fictitious)) for name, each in played.items()
    }
    periods = {name: _zero_sum.period(each.responses) for name, each in played.items()}
    moves = {
        name: np.any(each.responses[0][1:] != each.responses[0][:-1])
        for name, each in played.items()
    }
    led = {name: _distance(each.ends) for name, each in played.items()}
    return [
        _results.claim(
            f"Frequencies of fictitious play come within {NEAR} of ½ and ⅓.",
            _listed(frequencies, "{:.3f}"),
            holds=max(frequencies.values()) <= NEAR,
        ),
        _results.claim(
            "Best-response dynamics go round for ever.",
            f"they repeat themselves after {_listed(periods, '{}')} plays",
            holds=all(periods[name] is not None and moves[name] for name in played),
        ),
        _results.claim(
            f"A leader who learned its follower's response plays within {NEAR} of ½ and ⅓ itself, "
            "every seed.",
            _listed(led, "{:.3f}"),
            holds=max(led.values()) <= NEAR,
        ),
    ]


def _relative_error(pair: tuple[np.ndarray, np.ndarray], exact: tuple[float, float]) -> float:
    """Largest error of the last quantities, in per cent of the exact one."""
    errors = [np.max(np.abs(path[-1] / best - 1)) for path, best in zip(pair, exact, strict=True)]
    return 100 * float(max(errors))


def _distance(*strategies: np.ndarray) -> float:
    """Largest distance of an entry of mixed strategies, (…, n), from that of the uniform one."""
    return float(max(np.max(np.abs(each - 1 / each.shape[-1])) for each in strategies))


def _listed(values: dict[str, Any], form: str) -> str:
    return ", ".join(f"{form.format(value)} in {name}" for name, value in values.items())


def _margin(config: Any) -> float:
    return (config.intercept - config.cost) / config.slope


if __name__ == "__main__":
    _launch.main(run)
