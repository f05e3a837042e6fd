r"""Of our own: hypernets that start at the model's weights, beside the paper's start.

python -m experiments.hypernet_start --config=configs/hypernet_start.py --workdir=DIR

LeNet-5 on MNIST with a decay for each of its weights, tuned by Algorithm 3. From φ ~ N(0, 0.01²) a
hypernet that reads the logarithms of 61,706 decays makes weights that have nothing to do with how
the model initializes its own.
"""

import pathlib
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _results
from experiments._augmented_lenet import LeNet, cross_entropy
from shohypernet import hypernets
from shohypernet.problem import Problem, param_shapes

NAME = "hypernet_start"
PAPER, MODEL = "paper's start", "model's weights"
CHANCE = float(np.log(10))  # loss of equal logits


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune with each hypernet from either start."""
    data = _decay_problem.load_data(config)
    model: Any = LeNet(tuple(config.channels), tuple(config.hidden))
    problem = shn.supervised(
        model,
        data.train.inputs[:1],
        cross_entropy,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    start = shn.penalties.decays(param_shapes(problem), config.start, "weight")
    histories = {}
    for name in config.hypernets:
        for label, scale in ((PAPER, hypernets.PAPER_INIT_SCALE), (MODEL, None)):
            print(f"{name}, {label}.", flush=True)
            hypernet = getattr(hypernets, name)(init_scale=scale)
            result = shn.fit(
                problem,
                method(problem, hypernet, config),
                data,
                start,
                steps=config.rounds,
                seeds=config.seed,
                inner_steps=config.inner_steps,
                train_batch_size=config.batch_size,
                valid_batch_size=config.batch_size,
                eval_every=config.rounds // config.evaluations,
                workdir=workdir / f"{name}, {label}",
                resume="auto" if resume else False,
                config=config.to_dict(),
            )
            histories[f"{name}, {label}"] = result.history
            print(f"  validation loss {result.history.valid_loss[-1]:.3f}", flush=True)

    _plots.save_figure(_draw(histories, config), workdir, NAME)
    losses = {name: each.valid_loss for name, each in histories.items()}
    steps = config.inner_steps * histories[f"{config.hypernets[0]}, {MODEL}"].step
    _results.save_arrays(workdir, NAME, {"training steps": steps} | losses)
    ends = {name: float(each[-1]) for name, each in losses.items()}
    return {
        "main": {f"validation loss, {name}": end for name, end in ends.items()},
        "claims": [claim(name, ends) for name in config.hypernets],
        "hyperparameters": sum(leaf.size for leaf in jax.tree.leaves(start)),
    }


def method(problem: Problem, hypernet: hypernets.Hypernet, config: Any) -> shn.HyperOptimizer:
    """Algorithm 3."""
    return shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(config.hypernet_learning_rate),
        hyper_optimizer=optax.adam(config.hyper_learning_rate, eps=1e-15),
        sampler=shn.samplers.local_gaussian(config.sampling_scale),
    )


def claim(name: str, ends: dict[str, float]) -> dict[str, Any]:
    """The claim about one hypernet, from final validation losses."""
    ours, theirs = ends[f"{name}, {MODEL}"], ends[f"{name}, {PAPER}"]
    return _results.claim(
        f"{name}: from the model's weights it trains, to a fifth of what equal logits cost or "
        "less, and below where the paper's start ends.",
        f"validation loss {ours:.3f} nats, against {theirs:.3f}; equal logits cost {CHANCE:.2f}",
        holds=ours <= CHANCE / 5 and not theirs <= ours,  # theirs may be NaN
    )


def _draw(histories: dict[str, shn.History], config: Any) -> Figure:
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    colors = "0.6", _plots.COLORS[0], _plots.COLORS[3], _plots.COLORS[1]
    for (label, history), color in zip(histories.items(), colors, strict=False):
        axes.plot(config.inner_steps * history.step, history.valid_loss, color=color, label=label)
    axes.axhline(CHANCE, color="0.3", linestyle=":", label="equal logits")
    axes.set(
        yscale="log", xlabel="updates of the hypernet", ylabel="validation loss (cross-entropy)"
    )
    axes.set_title("LeNet-5, a decay for each weight")
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    _launch.main(run)
