"""Figure 5 of the paper: one decay per weight, for networks with up to two hidden layers.

The line to beat is the network with one decay for all weights, the best of a grid by validation
loss, trained as well as we know how. The grid costs one inner run per decay, and
hyper-training is given no more gradient evaluations than the whole grid.

python -m experiments.deeper_networks --config=configs/deeper_networks.py --workdir=DIR
"""

import pathlib
from typing import Any

import numpy as np

import shohypernet as shn
from experiments import (
    _decay_problem,
    _deeper_networks_plot,
    _launch,
    _network_runs,
    _plots,
    _results,
)
from experiments._network_runs import Network, losses
from shohypernet.datasets import CLASSES

NAME = "deeper_networks"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Cross-validate, hyper-train and retrain each network, and draw the losses."""
    data = _decay_problem.load_data(config)
    found = []
    for hidden in config.networks:
        widths = tuple(int(width) for width in hidden.split("-") if width)
        name = "-".join(map(str, (data.train.inputs.shape[1], *widths, CLASSES)))
        problem = _decay_problem.problem_on(data, widths, config.init_scale)
        found.append(_network_runs.run(name, problem, data, config, workdir / name, resume=resume))

    _plots.save_figure(_deeper_networks_plot.draw(found), workdir, NAME)
    _results.save_arrays(workdir, NAME, _arrays(found))
    return {
        "main": {
            f"{network.name}, {split}": getattr(network.tuned, f"{split}_loss")[-1].tolist()
            for network in found
            for split in _plots.SPLITS
        },
        "claims": [claim for network in found for claim in _claims(network, config)],
        "order": _decay_problem.described(config),
        "networks": {network.name: _summary(network, config) for network in found},
    }


def _claims(network: Network, config: Any) -> list[dict[str, Any]]:
    best = network.grid.losses[network.best].mean(0)
    tuned = [each[-1].mean() for each in losses(network.tuned)]
    return [
        _claim_better(network, config, best, tuned),
        _claim_faster(network),
        _claim_gap(network, best, tuned),
    ]


def _claim_better(network: Network, config: Any, best: Any, tuned: Any) -> dict[str, Any]:
    again = network.retrained.losses.mean(0)
    evaluations = int(network.tuned.gradient_evaluations[-1].mean())
    for_grid = config.training.steps * len(network.decays)
    transfer = bool(np.all(again[1:] < best[1:]))
    return _results.claim(
        f"{network.name}: one decay per weight beats the best single decay, on validation and on "
        "test, within the compute of the grid.",
        f"validation / test {_pair(tuned)} against {_pair(best)} at λ = "
        f"{network.decays[network.best]:g}, for {evaluations:,} gradient evaluations per seed "
        f"against {for_grid:,}. Trained again at the final λ̂ the network gets {_pair(again)}: "
        + (
            "the decays are good by themselves."
            if transfer
            else "the decays suit the weights that they were tuned with, and no others."
        ),
        holds=tuned[1] < best[1] and tuned[2] < best[2] and evaluations <= for_grid,
    )


def _claim_faster(network: Network) -> dict[str, Any]:
    seconds = min(network.tuned.seconds[-1], network.factorized.seconds[-1])
    by_then, rival = (
        [np.interp(seconds, history.seconds, each.mean(1)) for each in losses(history)]
        for history in (network.tuned, network.factorized)
    )
    return _results.claim(
        f"{network.name}: it beats the paper's hypernet with the same care, at equal seconds.",
        f"after {seconds:.0f} s validation / test {_pair(by_then)} against {_pair(rival)}",
        holds=by_then[1] < rival[1] and by_then[2] < rival[2],
    )


def _claim_gap(network: Network, best: Any, tuned: Any) -> dict[str, Any]:
    gaps = [test - valid for _, valid, test in (best, tuned)]
    smaller = gaps[1] < gaps[0]
    return _results.claim(
        f"{network.name}: the gap between test and validation loss is smaller than with the "
        "best single decay.",
        f"{gaps[1]:.5f} against {gaps[0]:.5f}"
        + (
            ""
            if smaller
            else ": so many decays fit the validation images, as weights fit the training ones"
        ),
        holds=smaller,
    )


def _pair(losses: Any) -> str:
    return f"{losses[1]:.5f} / {losses[2]:.5f}"


def _summary(network: Network, config: Any) -> dict[str, Any]:
    def hyper_trained(history: shn.History) -> dict[str, Any]:
        return {
            "rounds": int(history.step[-1]),
            "gradient_evaluations": int(history.gradient_evaluations[-1].mean()),
            "seconds_all_seeds": float(history.seconds[-1]),
            "valid_loss": history.valid_loss[-1].tolist(),
            "test_loss": history.test_loss[-1].tolist(),
        }

    losses = network.grid.losses
    return {
        "grid": {
            "log_decays": network.decays.tolist(),
            "valid_loss": losses[..., 1].mean(1).tolist(),
            "best_log_decay": float(network.decays[network.best]),
            "best_valid_loss": losses[network.best, :, 1].tolist(),
            "best_test_loss": losses[network.best, :, 2].tolist(),
            "gradient_evaluations": config.training.steps * len(network.decays),
            "seconds_all_seeds": network.grid.seconds,
        },
        "tuned": hyper_trained(network.tuned),
        "paper": hyper_trained(network.paper),
        "factorized": hyper_trained(network.factorized),
        "retrained": {
            "valid_loss": network.retrained.losses[:, 1].tolist(),
            "test_loss": network.retrained.losses[:, 2].tolist(),
        },
    }


def _arrays(found: list[Network]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for network in found:
        arrays[f"{network.name}: log decays"] = network.decays
        arrays[f"{network.name}: grid losses"] = network.grid.losses
        arrays[f"{network.name}: retrained losses"] = network.retrained.losses
        for kind in ("tuned", "paper", "factorized"):
            arrays |= _results.history_arrays(f"{network.name}, {kind}", getattr(network, kind))
    return arrays


if __name__ == "__main__":
    _launch.main(run)
