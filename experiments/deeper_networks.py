"""Figure 5 of the paper: one decay a weight, for networks with up to two hidden layers.

The line to beat is the network with one decay for all weights, the best of a grid by validation
loss, trained as well as we know how. The grid costs as many trainings as it has decays, and
hyper-training is given no more gradient evaluations than the whole grid.

python -m experiments.deeper_networks --config=configs/deeper_networks.py --workdir=DIR
"""

import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import decay_problem, hyper_training, launch, report
from shohypernet.batches import CLASSES, Data
from shohypernet.problem import Problem

SPLITS = "validation", "test"


class Trainings(NamedTuple):
    """Networks trained at fixed λ.

    Attributes:
      losses: on train, valid and test, shape (..., seeds, 3).
      seconds: of all trainings together, compilation apart.
    """

    losses: np.ndarray
    seconds: float


class Network(NamedTuple):
    """What was found for one network.

    Attributes:
      name: the widths of its layers.
      decays: the grid of log decays.
      grid: trainings at each of them, losses of shape (decays, seeds, 3).
      tuned: the history of hyper-training with our settings, for all seeds.
      paper: with the paper's hypernet and settings, for the first seed.
      factorized: with the paper's hypernet and our settings, for all seeds.
      retrained: trainings from the start at each seed's final λ̂, losses of shape (seeds, 3).
    """

    name: str
    decays: np.ndarray
    grid: Trainings
    tuned: shn.History
    paper: shn.History
    factorized: shn.History
    retrained: Trainings

    @property
    def best(self) -> int:
        """The place in the grid of least mean validation loss."""
        return int(np.argmin(self.grid.losses[..., 1].mean(1)))


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Cross-validates, hyper-trains and retrains each network, and draws the losses."""
    data = decay_problem.load_data(config)
    found = []
    for hidden in config.networks:
        widths = tuple(int(width) for width in hidden.split("-") if width)
        name = "-".join(map(str, (data.train.inputs.shape[1], *widths, CLASSES)))
        problem = decay_problem.problem_on(data, widths, config.init_scale)
        found.append(_network(name, problem, data, config, workdir / name, resume=resume))

    report.save_figure(_draw(found), workdir, "deeper_networks")
    report.save_arrays(workdir, "deeper_networks", _arrays(found))
    return {
        "claims": [claim for network in found for claim in _claims(network, config)],
        "order": f"{config.data}: {config.train_examples:,} training, {config.valid_examples:,} "
        "validation examples",
        "networks": {network.name: _summary(network, config) for network in found},
    }


def _network(
    name: str, problem: Problem, data: Data, config: Any, folder: pathlib.Path, *, resume: bool
) -> Network:
    seeds = jnp.asarray(config.seeds)
    decays = jnp.asarray(config.decays, jnp.float32)
    print(f"{name}: {decays.size} decays, each for {seeds.size} seeds.", flush=True)
    train = _trainer(problem, config.training)
    over_seeds = jax.vmap(train, (0, None, None))
    grid = _timed(jax.vmap(over_seeds, (None, 0, None)), seeds, decays, data)

    results = {}
    for kind, method, count in (
        ("tuned", hyper_training.tuned(problem, config.tuned), None),
        ("paper", hyper_training.paper(problem, config.paper), 1),
        ("factorized", hyper_training.factorized(problem, config.factorized, config.start), None),
    ):
        print(f"{name}: hyper-training, {kind}.", flush=True)
        results[kind] = hyper_training.fit(
            problem,
            method,
            data,
            decay_problem.log_decays(problem, config.start, "weight"),
            config[kind],
            folder / kind,
            seeds=config.seeds[:count],
            evaluations=config.evaluations,
            resume=resume,
        )
    retrained = _timed(jax.vmap(train, (0, 0, None)), seeds, results["tuned"].hyperparams, data)
    histories = {kind: result.history for kind, result in results.items()}
    return Network(name, np.asarray(decays), grid, retrained=retrained, **histories)


def _trainer(problem: Problem, settings: Any) -> Callable[[jax.Array, Any, Data], jax.Array]:
    """`train(seed, hyperparams, data) -> losses`, of shape (3,)."""
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)

    def train(seed: jax.Array, hyperparams: Any, data: Data) -> jax.Array:
        params = shn.train(
            problem,
            optax.adam(schedule),
            jax.random.key(seed),
            hyperparams,
            data.train,
            steps=settings.steps,
            batch_size=settings.batch_size,
        ).params
        return jnp.stack([problem.valid_loss(params, hyperparams, split) for split in data])

    return train


def _timed(train: Callable[..., jax.Array], *arguments: Any) -> Trainings:
    compiled = jax.jit(train).lower(*arguments).compile()
    began = time.perf_counter()
    losses = np.asarray(compiled(*arguments))
    return Trainings(losses, time.perf_counter() - began)


def _claims(network: Network, config: Any) -> list[dict[str, Any]]:
    best = network.grid.losses[network.best].mean(0)
    tuned = [losses[-1].mean() for losses in _losses(network.tuned)]
    seconds = min(network.tuned.seconds[-1], network.factorized.seconds[-1])
    by_then, rival = (
        [np.interp(seconds, history.seconds, losses.mean(1)) for losses in _losses(history)]
        for history in (network.tuned, network.factorized)
    )
    again = network.retrained.losses.mean(0)
    evaluations = int(network.tuned.gradient_evaluations[-1].mean())
    for_grid = config.training.steps * len(network.decays)
    gaps = [test - valid for _, valid, test in (best, tuned)]
    transfer = bool(np.all(again[1:] < best[1:]))
    return [
        report.claim(
            f"{network.name}: one decay a weight beats the best single decay, on validation and on "
            "test, within the compute of the grid.",
            f"validation / test {_pair(tuned)} against {_pair(best)} at λ = "
            f"{network.decays[network.best]:g}, for {evaluations:,} gradient evaluations a seed "
            f"against {for_grid:,}. Trained anew at the final λ̂ the network gets {_pair(again)}: "
            + (
                "the decays are good by themselves."
                if transfer
                else "the decays suit the weights that they were tuned with, and no others."
            ),
            holds=tuned[1] < best[1] and tuned[2] < best[2] and evaluations <= for_grid,
        ),
        report.claim(
            f"{network.name}: it beats the paper's hypernet with the same care, at equal seconds.",
            f"after {seconds:.0f} s validation / test {_pair(by_then)} against {_pair(rival)}",
            holds=bool(by_then[1] < rival[1] and by_then[2] < rival[2]),
        ),
        report.claim(
            f"{network.name}: the gap between test and validation loss is smaller than with the "
            "best single decay.",
            f"{gaps[1]:.5f} against {gaps[0]:.5f}"
            + (
                ""
                if gaps[1] < gaps[0]
                else ": so many decays fit the validation images, as weights fit the training ones"
            ),
            holds=gaps[1] < gaps[0],
        ),
    ]


def _pair(losses: Any) -> str:
    return f"{losses[1]:.5f} / {losses[2]:.5f}"


def _losses(history: shn.History) -> tuple[np.ndarray, ...]:
    return history.train_loss, history.valid_loss, history.test_loss


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
            fields = getattr(network, kind)._asdict()
            del fields["hyperparams"]
            arrays |= {f"{network.name}, {kind}: {field}": x for field, x in fields.items()}
    return arrays


def _draw(found: list[Network]) -> Figure:
    width = 4.2 * len(found) + 0.8
    figure, axes = plt.subplots(
        2, len(found), figsize=(width, 7.5), sharex="col", sharey="col", squeeze=False
    )
    for column, network in enumerate(found):
        for row, name in enumerate(SPLITS):
            panel, place = axes[row, column], row + 1
            for history, color, mark, label in (
                (network.tuned, report.COLORS[0], "o", "hyper-training, tuned"),
                (network.paper, report.COLORS[1], "s", "hyper-training, paper"),
                (network.factorized, report.COLORS[3], "^", "paper's hypernet, tuned"),
            ):
                losses = _losses(history)[place][1:]
                cost = history.gradient_evaluations.mean(1)[1:]
                look = {"color": color, "marker": mark, "markersize": 3.5}
                panel.plot(cost, losses.mean(1), **look, label=label)
                panel.fill_between(
                    cost, losses.min(1), losses.max(1), color=color, alpha=0.15, linewidth=0
                )
            for losses, color, style, label in (
                (network.grid.losses[network.best], "0.2", "--", "best single decay of a grid"),
                (
                    network.retrained.losses,
                    report.COLORS[2],
                    "-.",
                    r"trained anew at the tuned $\hat\lambda$",
                ),
            ):
                panel.axhline(losses[:, place].mean(), color=color, linestyle=style, label=label)
            panel.set(yscale="log", ylabel=f"{name} loss (MSE)" if column == 0 else "")
        axes[0, column].set_title(network.name)
        axes[1, column].set_xlabel("gradient evaluations a seed")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9
    )
    return figure


if __name__ == "__main__":
    launch.main(run)
