"""Figure 2 of the paper: the best response learned for every λ at once (Algorithm 2).

python -m experiments.global_best_response --config=configs/global_best_response.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _launch, _plots, _results, _small_problem
from experiments._small_problem import Curve, loss_at
from shohypernet.batches import Data
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem

NAME = "global_best_response"
OPTIMUM_TOLERANCE = 0.3  # in log decay, between the two curves' minima
LOSS_TOLERANCE = 0.02  # of the cross-validated loss, at every cross from λ = 0 up


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train one hypernet for all decays, draw its curve over the crosses, then move λ̂."""
    problem, data = _small_problem.build(config)
    hypernet = shn.hypernets.mlp(config.hypernet_hidden, init_scale=shn.hypernets.PAPER_INIT_SCALE)
    result = _tuned(problem, hypernet, data, config, workdir / "fit", resume=resume)
    print("Cross-validating.")
    crosses = _small_problem.cross_validate(problem, data, config)
    phi = jax.tree.map(lambda leaf: leaf[0], result.state.hypernet_params)
    learned = _small_problem.hypernet_curve(problem, hypernet, phi, data, config)
    found = float(result.unconstrained[0])

    _plots.save_figure(_draw(crosses, learned, found), workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {
            **_small_problem.curve_arrays(crosses, learned),
            "steps": result.history.step,
            "path": result.history.unconstrained,
        },
    )
    return {
        "main": {"λ̂": found, "best λ": crosses.optimum},
        "claims": _claims(crosses, learned, found, config.prior_high),
        "cross_validated_optimum": crosses.optimum,
        "least_cross_validated_loss": float(crosses.valid_loss.min()),
        "hypernet_optimum": learned.optimum,
        "least_hypernet_loss": float(learned.valid_loss.min()),
        "final_hyperparams": np.asarray(result.unconstrained).tolist(),
        "seconds": float(result.history.seconds[-1]),
        "compile_seconds": result.compile_seconds,
    }


def _tuned(
    problem: Problem,
    hypernet: Hypernet,
    data: Data,
    config: Any,
    folder: pathlib.Path,
    *,
    resume: bool,
) -> shn.Result:
    schedule = optax.cosine_decay_schedule(
        config.hypernet_learning_rate, config.hypernet_rounds * config.inner_steps
    )
    broad = shn.samplers.gaussian(config.prior_mean, config.prior_scale)
    method = shn.global_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(schedule),
        hyper_optimizer=optax.adam(config.hyper_learning_rate),
        sampler=shn.samplers.clipped(broad, config.prior_low, config.prior_high),
        hypernet_rounds=config.hypernet_rounds,
        samples=config.samples,
    )
    rounds = config.hypernet_rounds + config.hyper_rounds
    print(f"Training the hypernet for {config.hypernet_rounds} rounds of {rounds}, then moving λ̂.")
    return shn.fit(
        problem,
        method,
        data,
        np.exp(config.start),
        steps=rounds,
        seeds=config.seeds,
        inner_steps=config.inner_steps,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


def _claims(
    crosses: Curve, learned: Curve, found: float, prior_high: float
) -> list[dict[str, Any]]:
    covered = [x for x in crosses.hyperparams if 0 <= x <= prior_high]
    gaps = np.array([loss_at(learned, x) / loss_at(crosses, x) - 1 for x in covered])
    worst = int(np.argmax(np.abs(gaps)))
    return [
        _results.claim(
            "The minimum of the hypernet's validation loss lies near the crosses' minimum "
            f"(within {OPTIMUM_TOLERANCE}).",
            f"the curve is least at {learned.optimum:.2f}, the crosses at "
            f"{crosses.optimum:.2f}, and λ̂ ended at {found:.2f}",
            holds=abs(learned.optimum - crosses.optimum) <= OPTIMUM_TOLERANCE,
        ),
        _results.claim(
            "The hypernet's weights are as good as trained ones at every cross from λ = 0 up "
            f"(validation loss within {LOSS_TOLERANCE:.0%}).",
            f"at worst {gaps[worst]:+.2%}, at λ = {covered[worst]:.1f}",
            holds=np.abs(gaps[worst]) <= LOSS_TOLERANCE,
        ),
    ]


def _draw(crosses: Curve, learned: Curve, found: float) -> Figure:
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    _small_problem.draw_curves(axes, crosses, learned)
    axes.axvline(found, color="0.1", linewidth=1, label=r"$\hat\lambda$ found")
    axes.set_title("One hypernet for every decay")
    _small_problem.legend_under(axes)
    return figure


if __name__ == "__main__":
    _launch.main(run)
