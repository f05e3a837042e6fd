"""Ten million weights hyper-trained by a hypernet of fewer numbers than the weights.

`hypernets.chunked` makes the weights of 784-w-w-10 a thousand at a time, each thousand from an
embedding of its own. Beside it the same network is trained itself, for as many steps at the decays
that the tuning starts from.

python -m experiments.chunked_hypernet --config=configs/chunked_hypernet.py --workdir=DIR
"""

import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _results
from shohypernet.batches import Data
from shohypernet.datasets import CLASSES
from shohypernet.problem import Problem, param_shapes

NAME = "chunked_hypernet"


class Width(NamedTuple):
    """Both trainings of a network of one width.

    Attributes:
      weights: how many there are.
      chunked: numbers of φ.
      dense: numbers of φ of a layer of as many units in front of all weights.
      tuned: of hyper-training, for all seeds.
      plain: valid and test loss of plain training, shape (seeds, 2).
    """

    weights: int
    chunked: int
    dense: int
    tuned: shn.Result
    plain: np.ndarray


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune and train the network at each width."""
    data = _decay_problem.load_data(config)
    widths = {
        f"784-{width}-{width}-10": at_width(width, data, config, workdir, resume=resume)
        for width in config.widths
    }
    _plots.save_figure(draw(widths), workdir, NAME)
    arrays = {}
    for name, each in widths.items():
        arrays |= _results.history_arrays(name, each.tuned.history)
    _results.save_arrays(workdir, NAME, arrays)
    head = ["", "weights", "φ", "dense φ", "valid", "test", "plain, valid", "test"]
    rows = [
        [
            name,
            *(f"{number:,}" for number in each[:3]),
            *(_results.mean_and_range(losses, 3) for losses in (*last(each), *each.plain.T)),
        ]
        for name, each in widths.items()
    ]
    print(_results.table(head, rows))
    return {
        "main": {
            f"validation loss, {name}": last(each)[0].tolist() for name, each in widths.items()
        },
        "claims": claims(widths),
        "numbers": {name: each[:3] for name, each in widths.items()},
        "losses": {name: _results.listed(np.stack(last(each))) for name, each in widths.items()},
        "plain": {name: each.plain.tolist() for name, each in widths.items()},
        "hyperparams": {
            name: _results.listed(each.tuned.hyperparams) for name, each in widths.items()
        },
    }


def at_width(width: int, data: Data, config: Any, workdir: pathlib.Path, *, resume: bool) -> Width:
    """Tune and train one network."""
    problem = build(width, data)
    decays = shn.penalties.decays(param_shapes(problem), config.start, "layer")
    hypernet = shn.hypernets.chunked(config.chunk, embedding=config.embedding, hidden=config.units)
    weights = sum(leaf.size for leaf in jax.tree.leaves(param_shapes(problem)))
    count = numbers(hypernet, problem, decays)
    print(f"784-{width}-{width}-10: {weights:,} weights, {count:,} numbers of φ.")
    tuned = tune(problem, hypernet, data, decays, config, workdir / f"{width}", resume=resume)
    dense = numbers(shn.hypernets.mlp((config.units,)), problem, decays)
    return Width(weights, count, dense, tuned, train(problem, data, decays, config))


def build(width: int, data: Data) -> Problem:
    """A network of two hidden layers, and a decay for each layer."""
    hidden = [nn.Dense(width), nn.relu, nn.Dense(width), nn.relu]
    return shn.supervised(
        nn.Sequential([*hidden, nn.Dense(CLASSES)]),
        data.train.inputs[:1],
        lambda logits, labels: optax.softmax_cross_entropy(logits, labels).mean(),
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )


def numbers(hypernet: shn.hypernets.Hypernet, problem: Problem, decays: Any) -> int:
    """How many numbers a hypernet learns, without making them."""

    def init(key: jax.Array) -> Any:
        return hypernet.init(key, problem.init(key), decays)

    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))


def tune(
    problem: Problem,
    hypernet: shn.hypernets.Hypernet,
    data: Data,
    decays: Any,
    config: Any,
    folder: pathlib.Path,
    *,
    resume: bool,
) -> shn.Result:
    """Hyper-train by Algorithm 3."""
    updates = config.rounds * config.inner_steps
    method = shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(
            optax.cosine_decay_schedule(config.hypernet_learning_rate, updates)
        ),
        hyper_optimizer=optax.adam(config.hyper_learning_rate),
        sampler=shn.samplers.local_gaussian(config.sampling_scale),
        samples=config.samples,
    )
    return shn.fit(
        problem,
        method,
        data,
        decays,
        steps=config.rounds,
        seeds=config.seeds,
        inner_steps=config.inner_steps,
        train_batch_size=config.batch_size,
        valid_batch_size=config.valid_batch_size,
        eval_every=config.rounds // config.evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


def train(problem: Problem, data: Data, decays: Any, config: Any) -> np.ndarray:
    """Validation and test loss of weights that are trained themselves, shape (seeds, 2)."""
    steps = config.rounds * config.inner_steps
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps))
    again = shn.retrain(
        problem,
        decays,
        data,
        optimizer=optimizer,
        steps=steps,
        batch_size=config.batch_size,
        with_valid=False,
        seeds=tuple(config.seeds),
    )
    return np.stack([again.losses.valid, again.losses.test], axis=1)


def last(width: Width) -> tuple[np.ndarray, np.ndarray]:
    """Final validation and test losses of hyper-training, (seeds,)."""
    history = width.tuned.history
    return np.asarray(history.valid_loss[-1]), np.asarray(history.test_loss[-1])


def claims(widths: dict[str, Width]) -> list[dict[str, Any]]:
    """Claims about sizes and mean losses of the widest network."""
    name, each = max(widths.items(), key=lambda item: item[1].weights)
    tuned, plain = last(each)[0], each.plain[:, 0]
    return [
        _results.claim(
            "Ten million weights or more are made by a tenth as many numbers or fewer.",
            f"{name} has {each.weights:,}, φ {each.chunked:,} ({each.dense:,} in the last layer's "
            "place)",
            holds=each.weights >= 10**7 and each.chunked <= each.weights / 10,
        ),
        _results.claim(
            "Their validation loss is at most a tenth above that of as many steps of training.",
            f"{_results.mean_and_range(tuned, 3)} against {_results.mean_and_range(plain, 3)}",
            holds=bool(tuned.mean() <= 1.1 * plain.mean()),
        ),
    ]


def draw(widths: dict[str, Width]) -> Figure:
    """Validation losses by rounds; lines of plain training's final ones."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for (name, each), color in zip(widths.items(), _plots.COLORS, strict=False):
        history, label = each.tuned.history, f"{name}: {each.weights:,} from {each.chunked:,}"
        _plots.seed_line(axes, history.step, history.valid_loss, label, color=color, marker=".")
        axes.axhline(each.plain[:, 0].mean(), color=color, linestyle=":", label=f"{name}, trained")
    axes.set(xlabel="rounds", ylabel="validation loss (cross-entropy)", yscale="log")
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    _launch.main(run)
