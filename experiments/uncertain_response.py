"""A Bayesian hypernet's intervals for the validation loss at each λ, held against trained models.

An interval at λ is for the loss of one more model that is trained at λ, from a seed of its own. The
posterior's own interval is that of drawn hypernets, and knows neither of seeds nor of what its
hypernet can't be. The scaled one, center + spread · [a, b], has one a and one b for all λ, from a
set of trained models. Another set, held out, tells how many models either holds. Beside them stand
intervals of one width for all λ, and a Gaussian process of the first set's losses.

python -m experiments.uncertain_response --config=configs/uncertain_response.py --workdir=DIR
"""

import itertools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import shohypernet as shn
from experiments import _first_phase, _intervals, _launch, _plots, _results, _turned_digits
from experiments import _uncertain_response_plot as plot
from experiments._intervals import Intervals
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data
from shohypernet.problem import Problem

NAME = "uncertain_response"
LEVEL = 0.9
OWN, SCALED, CONSTANT, PROCESS = "posterior's own", "scaled", "one width", "Gaussian process"
SCALED_FEW, PROCESS_FEW = "scaled, few models", "Gaussian process, few models"


class Models(NamedTuple):
    """Models that were trained to the end.

    Attributes:
      hyperparams: λ in natural units, leaves (models,).
      losses: validation losses, shape (models,).
    """

    hyperparams: dict[str, jax.Array]
    losses: np.ndarray

    def part(self, first: int, last: int) -> "Models":
        """Some of the models."""
        part = slice(first, last)
        return Models(jax.tree.map(lambda leaf: leaf[part], self.hyperparams), self.losses[part])

    @property
    def features(self) -> np.ndarray:
        """λ for a Gaussian process, shape (models, 3)."""
        angle, decay = self.hyperparams["angle"], self.hyperparams["decay"]
        return np.stack([np.cos(angle), np.sin(angle), np.log(decay)], axis=1)


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train hypernets and models, and count the models in the intervals."""
    data = _turned_digits.load_data(config)
    problem = _turned_digits.problem_on(config, hp.real())
    hypernet = _turned_digits.bayesian(config)
    fitted = _first_phase.train_hypernet(
        problem,
        hypernet,
        _turned_digits.broad(config),
        data,
        {"angle": 0.0, "decay": float(np.exp(config.decay_low))},
        config,
        workdir / "fit",
        rounds=config.rounds,
        seeds=config.seeds,
        resume=resume,
        batch_size=config.batch_size,
        response_loss=shn.hypertraining.variational(config.examples),
    )
    known, held_out, along, noise = train_models(problem, data, config)

    def losses(seed: int, hyperparams: Any) -> np.ndarray:
        phi = jax.tree.map(lambda leaf: leaf[seed], fitted.state.hypernet_params)
        at = phi, hyperparams, data.valid, jax.random.key(1)
        drawn = shn.hypertraining.predicted_losses(problem, hypernet, *at, draws=config.draws)
        return np.asarray(drawn)

    parts = known.hyperparams, held_out.hyperparams, along.hyperparams
    points = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    ends = np.cumsum([config.calibration, config.held_out])
    draws = [np.split(losses(seed, points), ends, axis=1) for seed in range(len(config.seeds))]
    few = known.part(0, config.few)
    processes = {PROCESS: of_process(known, held_out), PROCESS_FEW: of_process(few, held_out)}
    judged = []
    for first, rest, _ in draws:
        of_few = intervals(few, first[:, : config.few], rest, noise)[SCALED]
        judged.append(intervals(known, first, rest, noise) | processes | {SCALED_FEW: of_few})
    summary = summarize(judged, held_out.losses)
    of_known, of_held_out, of_curve = draws[0]
    band = intervals(known, of_known, of_curve, noise)
    spread = _intervals.spread(of_held_out, noise)
    figure = plot.draw(along, band, judged[0], held_out, spread)
    _plots.save_figure(figure, workdir, NAME)
    _results.save_arrays(workdir, NAME, {"losses": held_out.losses, **held_out.hyperparams})
    rows = [[name, *map(shown, each.values())] for name, each in summary.items()]
    print(_results.table(["", *summary[SCALED]], rows))
    return {
        "main": {f"coverage, {name}": each["coverage"] for name, each in summary.items()},
        "claims": claims(summary),
        "summary": summary,
        "seed_to_seed_deviation": noise,
    }


def train_models(problem: Problem, data: Data, config: Any) -> tuple[Models, Models, Models, float]:
    """Models to scale by, models held out, models along the angle, and the deviation by seeds."""
    count = config.calibration + config.held_out
    key_points, key_models = jax.random.split(jax.random.key(0))
    keys = jax.random.split(key_points, count)
    drawn = jax.vmap(_turned_digits.broad(config), (0, None))(keys, None)
    drawn = drawn | {"decay": jnp.exp(drawn["decay"])}
    again = jax.tree.map(lambda leaf: leaf[: config.calibration], drawn)
    along = {
        "angle": jnp.linspace(-np.pi, np.pi, config.curve_points),
        "decay": jnp.full(config.curve_points, np.exp(config.curve_decay)),
    }
    points = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), drawn, along, again)
    keys = jax.random.split(key_models, len(points["angle"]))
    print(f"Training {len(keys)} models to the end.")
    losses, _ = _turned_digits.trained(problem, data, keys, points, config)
    models = Models(points, losses)
    ends = np.cumsum([0, config.calibration, config.held_out, config.curve_points])
    ends = np.append(ends, len(keys))
    known, held_out, curve, other = (models.part(*both) for both in itertools.pairwise(ends))
    noise = np.sqrt(np.mean((known.losses - other.losses) ** 2) / 2)
    return known, held_out, curve, float(noise)


def intervals(
    known: Models, of_known: np.ndarray, draws: np.ndarray, noise: float
) -> dict[str, Intervals]:
    """Each kind of interval, from losses (draws, models) of drawn hypernets."""
    centers = of_known.mean(0), draws.mean(0)
    spreads = _intervals.spread(of_known, noise), _intervals.spread(draws, noise)
    ones = np.ones_like(spreads[0]), np.ones_like(spreads[1])

    def scaled(widths: tuple[np.ndarray, np.ndarray]) -> Intervals:
        before, after = zip(centers, widths, strict=True)
        return _intervals.scaled(known.losses, *before, *after, LEVEL)

    return {
        OWN: _intervals.of_draws(draws, LEVEL),
        SCALED: scaled(spreads),
        CONSTANT: scaled(ones),
    }


def of_process(known: Models, held_out: Models) -> Intervals:
    """Intervals of a Gaussian process of the losses that the others are scaled by."""
    quantile = float(scipy.stats.norm.ppf((1 + LEVEL) / 2))
    return _intervals.of_process(known.features, known.losses, held_out.features, quantile)


def summarize(
    judged: list[dict[str, Intervals]], losses: np.ndarray
) -> dict[str, dict[str, list[float]]]:
    """Coverage and width of each kind, over all models and the better half, a number per seed."""
    better = losses <= np.median(losses)
    return {
        name: {
            "coverage": [float(each[name].hold(losses).mean()) for each in judged],
            "width": [float(np.median(each[name].width)) for each in judged],
            "coverage, better half": [
                float(each[name].hold(losses)[better].mean()) for each in judged
            ],
            "width, better half": [float(np.median(each[name].width[better])) for each in judged],
        }
        for name in (OWN, SCALED, CONSTANT, PROCESS, SCALED_FEW, PROCESS_FEW)
    }


def shown(values: list[float]) -> str:
    """Mean and range over the seeds."""
    return _results.mean_and_range(np.array(values), 3)


# Claims are sentences that may turn out false. What was expected stays, whatever is measured.
def claims(summary: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Claims about coverage and width."""
    coverage = {name: np.array(each["coverage"]) for name, each in summary.items()}
    width = {name: np.array(each["width"]) for name, each in summary.items()}
    return [
        _results.claim(
            "The scaled 90 % intervals hold between 85 and 95 % of held-out models, every seed.",
            shown(summary[SCALED]["coverage"]),
            holds=bool(np.all(np.abs(coverage[SCALED] - LEVEL) <= 0.05)),
        ),
        _results.claim(
            "The posterior's own 90 % intervals hold fewer than 85 %, every seed.",
            shown(summary[OWN]["coverage"]),
            holds=bool(np.all(coverage[OWN] < 0.85)),
        ),
        _results.claim(
            "Scaled by the posterior's spread, they are narrower at the median than of one width.",
            f"{shown(summary[SCALED]['width'])} against {shown(summary[CONSTANT]['width'])}",
            holds=bool(np.all(width[SCALED] < width[CONSTANT])),
        ),
        _results.claim(
            "They are narrower at the median than those of a Gaussian process of the same models.",
            f"{shown(summary[SCALED]['width'])} against {shown(summary[PROCESS]['width'])}, "
            f"which hold {shown(summary[PROCESS]['coverage'])}",
            holds=bool(np.all(width[SCALED] < width[PROCESS])),
        ),
        few_claim(summary[SCALED_FEW], summary[PROCESS_FEW]),
    ]


def few_claim(scaled: dict[str, list[float]], process: dict[str, list[float]]) -> dict[str, Any]:
    """Claim about intervals from few trained models."""
    widths = f"widths {shown(scaled['width'])} and {shown(process['width'])}"
    return _results.claim(
        "From few trained models, the scaled intervals hold 85 % or more of held-out models, every "
        "seed, and the Gaussian process's hold fewer.",
        f"{shown(scaled['coverage'])} and {shown(process['coverage'])}; {widths}",
        holds=min(scaled["coverage"]) >= 0.85 > max(process["coverage"]),
    )


if __name__ == "__main__":
    _launch.main(run)
