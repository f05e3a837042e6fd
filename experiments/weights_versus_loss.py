"""Figure 6 of the paper: is it better to learn the best weights, or the loss that they have?

python -m experiments.weights_versus_loss --config=configs/weights_versus_loss.py --workdir=DIR
"""

import pathlib
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

import shohypernet as shn
from experiments import (
    _inference_claims,
    _inferred_losses,
    _launch,
    _plots,
    _principal_axes,
    _results,
    _weights_versus_loss_plot,
)
from experiments._decay_problem import load_data
from experiments._inferred_losses import Drawn
from shohypernet.problem import Problem

NAME = "weights_versus_loss"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train models, infer from some of them the losses of the others, and compare."""
    budget = config.samples * config.inner_steps * _inferred_losses.rounds(config)
    data = _principal_axes.rotate(load_data(config))
    problem = _principal_axes.problem_on(
        data, shn.losses.gaussian_nll_from_mse, shn.penalties.class_norm_penalty
    )
    drawn = _inferred_losses.draw(config)
    known, true = _losses(problem, data, drawn, config, workdir, resume=resume)
    longer = _inferred_losses.train(problem, data, drawn.points[0], config, 2 * config.train_steps)
    print(f"Training hypernets for {budget} gradient evaluations each.")
    learned = _inferred_losses.learn_all(
        problem, data, drawn.points, config, workdir, resume=resume
    )
    inferred = {
        name: _inferred_losses.infer(
            problem, each.hypernet, each.hypernet_params, drawn.pairs, data, config
        )
        for name, each in learned.items()
    }
    inferred |= _inferred_losses.by_processes(drawn.points, known, drawn.pairs, config)

    _plots.save_figure(_weights_versus_loss_plot.draw(true, inferred), workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {
            "hyperparams": drawn.pairs,
            "true_loss": true,
            **{f"inferred_{name}": value for name, value in inferred.items()},
            "models_hyperparams": drawn.points,
            "models_loss": known,
        },
    )
    return {
        **_findings(drawn, true, inferred),
        "true_best": float(true.min()),
        "best_of_the_models": known.min(axis=1).tolist(),
        "gradient_evaluations_of_each_method": budget,
        "gradient_evaluations_of_the_pairs": config.pairs * config.train_steps,
        "largest_change_of_loss_with_twice_the_steps": float(np.abs(longer - known[0]).max()),
        "hypernet_seconds": {name: each.seconds for name, each in learned.items()},
    }


def _losses(
    problem: Problem,
    data: Any,
    drawn: Drawn,
    config: Any,
    workdir: pathlib.Path,
    *,
    resume: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """True losses of the points, shape (sets, models), and of the pairs, kept in a file."""
    kept = workdir / "trained.npz"
    if resume and kept.exists():
        with np.load(kept) as file:
            losses = file["losses"]
    else:
        print(f"Training {len(drawn.all)} models to completion.")
        losses = _inferred_losses.train(problem, data, drawn.all, config, config.train_steps)
        np.savez(kept, losses=losses)
    return losses[: -config.pairs].reshape(config.sets, -1), losses[-config.pairs :]


def _findings(drawn: Drawn, true: np.ndarray, inferred: dict[str, np.ndarray]) -> dict[str, Any]:
    """The claims, and the numbers behind them."""
    names = _inference_claims.NAMES
    found = {name: _inference_claims.summary(true, inferred[name]) for name in names}
    # How far each pair's λ lies from the nearest of a set, shape (sets, pairs).
    pairs, sets = np.asarray(drawn.pairs), np.asarray(drawn.points)
    away = np.stack([cdist(pairs, each).min(axis=1) for each in sets])
    processes = inferred["process"]
    trends = {
        "process_by_distance": _inference_claims.by_tenths(away, processes - true),
        "stochastic_by_true_loss": _inference_claims.by_tenths(true, inferred["stochastic"] - true),
    }
    chosen = np.take_along_axis(away, processes.argmin(axis=1)[:, None], axis=1)
    farther = float((away < chosen).mean())
    return {
        "main": {f"spread, {name}": each["range_90"] for name, each in found.items()},
        "claims": _inference_claims.claims(found, trends, float(true.min()), farther),
        "errors": found,
        "mean_error_by_tenths": trends,
        "share_of_pairs_nearer_to_a_set_than_what_its_process_chose": farther,
    }


if __name__ == "__main__":
    _launch.main(run)
