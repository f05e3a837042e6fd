"""Strengths of augmentation, dropout and decay tuned in one run, beside a random search.

TEMPLATE of an experiment: copy it with `configs/_template.py` under a name of your own, and change
what the comments name. This docstring says what is done, and why that shows something; its first
line is the title in the report.

python -m experiments._template --config=configs/_template.py --workdir=DIR
"""

import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _results
from shohypernet.batches import Data
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.problem import Problem

NAME = "_template"  # of the figure's files
START, SEARCHED, TUNED = "start", "random search", "self-tuning"
COLORS = {START: "0.4", SEARCHED: _plots.COLORS[1], TUNED: _plots.COLORS[0]}


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune, search, train again with what either found, and compare on the test images."""
    data = _decay_problem.load_data(config)
    problem = build(data, config)
    count = len(jax.tree.leaves(problem.start))
    print(f"Tuning {count} hyperparameters in one run, seeds {config.seeds}.")
    tuned = tune(problem, data, config, workdir / "fit", resume=resume)
    budget = int(tuned.history.gradient_evaluations[-1].max())
    print(f"Random search with no fewer gradient evaluations, {budget:,} per seed.")
    searched = search(problem, data, config, budget)
    print("Training again from new weights, on training and validation images together.")
    start = jax.tree.map(lambda leaf: np.full(len(config.seeds), leaf), problem.start)
    chosen = {START: start, SEARCHED: searched.hyperparams, TUNED: tuned.hyperparams}
    losses = train_again(problem, data, chosen, config)

    _plots.save_figure(draw(tuned.history, losses), workdir, NAME)
    _results.save_arrays(workdir, NAME, _results.history_arrays(TUNED, tuned.history) | losses)
    rows = [[name, _results.mean_and_range(each, 3)] for name, each in losses.items()]
    print(_results.table(["", "test loss"], rows))
    return {  # the contents of results.json; `main` and `claims` are known to sweeps and reports
        "main": {f"test loss, {name}": each.tolist() for name, each in losses.items()},
        "claims": claims(losses),
        "hyperparams": _results.listed(chosen),
        "gradient_evaluations": budget,
    }


# Your model, its loss and its hyperparameters go here.
class Network(nn.Module):
    """One hidden layer with dropout, whose rate is a hyperparameter."""

    hidden: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits of flat images, (n, 784)."""
        hidden = nn.relu(nn.Dense(self.hidden)(images))
        hidden = nn.Dropout(0.5)(hidden, deterministic=not train)
        return nn.Dense(CLASSES)(hidden)


def build(data: Data, config: Any) -> Problem:
    """The problem, whose λ are strengths of regularizers that start from next to nothing."""
    return shn.supervised(
        Network(config.hidden),
        data.train.inputs[:1],
        lambda logits, labels: optax.softmax_cross_entropy(logits, labels).mean(),
        regularizers=[
            shn.regularizers.translate(0.2, shape=IMAGE_SHAPE),
            shn.regularizers.rotate(shape=IMAGE_SHAPE),
            shn.regularizers.scale(shape=IMAGE_SHAPE),
            shn.regularizers.input_dropout(),
            shn.regularizers.dropout(),
            shn.regularizers.weight_decay(),
        ],
        train_kwargs={"train": True},
    )


# Your method goes here. What `fit` keeps in the folder is what `--resume` goes on from.
def tune(
    problem: Problem, data: Data, config: Any, folder: pathlib.Path, *, resume: bool
) -> shn.Result:
    """λ by gradients through the response of the layers, while the network trains."""
    method = shn.self_tuning(
        problem,
        optimizer=optax.adam(config.learning_rate),
        hyper_optimizer=optax.rmsprop(config.hyper_learning_rate),
        warmup_rounds=config.warmup_rounds,
    )
    return shn.fit(
        problem,
        method,
        data,
        steps=config.rounds,
        seeds=config.seeds,
        inner_steps=config.inner_steps,
        train_batch_size=config.batch_size,
        valid_batch_size=config.batch_size,
        eval_every=config.rounds // config.evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


# Your baseline goes here. It gets the tuning's budget, rounded up to whole inner runs.
def search(problem: Problem, data: Data, config: Any, budget: int) -> shn.search.SearchResult:
    """The best of inner runs at λ that are drawn."""
    return shn.search.run(
        problem,
        shn.search.random_search(steps=config.search_steps, population=1),
        data,
        optimizer=optax.adam(config.learning_rate),
        budget=-(-budget // config.search_steps) * config.search_steps,
        seeds=config.seeds,
        batch_size=config.batch_size,
    )


def train_again(
    problem: Problem, data: Data, chosen: dict[str, Any], config: Any
) -> dict[str, np.ndarray]:
    """Test losses at the λ that were chosen, leaves (seeds,), each of shape (seeds,)."""
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts), data.train, data.valid)
    sizes = {"steps": config.train_steps, "batch_size": config.batch_size}

    @jax.jit
    def test_loss(key: jax.Array, hyperparams: Any) -> jax.Array:
        weights = optax.adam(config.learning_rate)
        trained = shn.train(problem, weights, key, hyperparams, both, **sizes)
        return problem.valid_loss(trained.params, hyperparams, data.test)

    def of_seed(tree: Any, number: int) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[number], tree)

    return {
        name: np.array(
            [
                test_loss(jax.random.key(seed), of_seed(tree, i))
                for i, seed in enumerate(config.seeds)
            ]
        )
        for name, tree in chosen.items()
    }


# Claims are sentences that may turn out false. What was expected stays, whatever is measured.
def claims(losses: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Claims about the test loss after training again."""
    shown = {name: _results.mean_and_range(each, 3) for name, each in losses.items()}
    return [
        _results.claim(
            "Networks trained again with the tuned strengths beat those at the start, every seed.",
            f"test loss {shown[TUNED]} against {shown[START]}",
            holds=bool(np.all(losses[TUNED] < losses[START])),
        ),
        _results.claim(
            "On average they beat those of a random search with no fewer gradient evaluations.",
            f"test loss {shown[TUNED]} against {shown[SEARCHED]}",
            holds=bool(losses[TUNED].mean() < losses[SEARCHED].mean()),
        ),
    ]


def draw(history: shn.History, losses: dict[str, np.ndarray]) -> Figure:
    """Validation loss of the tuning, and test losses after training again."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    _plots.seed_line(left, history.step, history.valid_loss, TUNED, color=COLORS[TUNED])
    left.set(xlabel="rounds", ylabel="validation loss (cross-entropy)", title="In the tuning")
    for i, (name, values) in enumerate(losses.items()):
        right.plot(np.full(len(values), i), values, "o", color=COLORS[name], alpha=0.6)
    right.set_xticks(range(len(losses)), losses)
    right.set(xlim=(-0.5, len(losses) - 0.5), ylabel="test loss", title="Trained again (seeds)")
    return figure


if __name__ == "__main__":
    _launch.main(run)
