"""Fifty validation images fitted by a decay for each weight, to 100 % (Lorraine et al., 2020).

Implicit differentiation with the identity in place of the curvature (T1 − T2) needs no product, and
so serves any number of hyperparameters.

Lorraine, Vicol and Duvenaud (2020), "Optimizing Millions of Hyperparameters by Implicit
Differentiation", arXiv:1911.02590, section 5.1.

python -m experiments.overfit_validation --config=configs/overfit_validation.py --workdir=DIR
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
from experiments import _launch, _plots, _results
from shohypernet.batches import Data
from shohypernet.problem import Problem

NAME = "overfit_validation"
SIDE = 28  # pixels


class LeNet(nn.Module):
    """Two convolutions with pooling, and three dense layers (LeCun et al., 1998)."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map flat images, (n, 784), to logits, (n, 10)."""
        images = inputs.reshape(-1, SIDE, SIDE, 1)
        for channels in (6, 16):
            images = nn.max_pool(nn.relu(nn.Conv(channels, (5, 5))(images)), (2, 2), (2, 2))
        flat = images.reshape(len(inputs), -1)
        for width in (120, 84):
            flat = nn.relu(nn.Dense(width)(flat))
        return nn.Dense(10)(flat)


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune the decays of every network, and draw accuracies on the way."""
    data = shn.datasets.load(
        config.data,
        train=config.train_examples,
        valid=config.valid_examples,
        test=config.test_examples,
        directory=config.directory or None,
    )
    results, counts, untuned = {}, {}, {}
    for name in config.models:
        problem, decays = build(name, data, config)
        counts[name] = sum(leaf.size for leaf in jax.tree.leaves(decays))
        print(f"{name}: {counts[name]:,} decays.")
        untuned[name] = accuracies(name, _untuned(problem, data, decays, config), data, config)
        results[name] = _tuned(problem, data, decays, config, workdir / name, resume=resume)
    ends = {name: accuracies(name, result.params, data, config) for name, result in results.items()}
    histories = {name: result.history for name, result in results.items()}
    _plots.save_figure(draw(histories, counts), workdir, NAME)
    arrays = {}
    for name, history in histories.items():
        arrays |= _results.history_arrays(name, history)
    _results.save_arrays(workdir, NAME, arrays)
    return {
        "main": {
            f"{name}, {split}": each[split]
            for name, each in ends.items()
            for split in ("valid", "test")
        },
        "claims": claims(ends, untuned, histories, counts),
        "accuracies": ends,
        "accuracies_at_the_first_decays": untuned,
        "decays": counts,
    }


def network(name: str, config: Any) -> nn.Module:
    """The network of a name."""
    if name == "lenet":
        return LeNet()
    hidden = [nn.Dense(config.hidden), nn.relu] if name == "mlp" else []
    return nn.Sequential([*hidden, nn.Dense(10)])


def build(name: str, data: Data, config: Any) -> tuple[Problem, Any]:
    """The problem of a network, and the first decay of each of its weights."""
    problem = shn.supervised(
        network(name, config),
        data.train.inputs[:1],
        lambda logits, labels: optax.softmax_cross_entropy(logits, labels).mean(),
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    weights = jax.eval_shape(problem.init, jax.random.key(0))
    return problem, shn.penalties.decays(weights, float(np.exp(config.start)), per="weight")


def _tuned(
    problem: Problem, data: Data, decays: Any, config: Any, folder: pathlib.Path, *, resume: bool
) -> shn.Result:
    # Steps of one size drive many decays so high that a LeNet stops training in the end.
    falling = optax.cosine_decay_schedule(config.hyper_learning_rate, config.rounds)
    method = shn.implicit(
        problem,
        optimizer=optax.adam(config.learning_rate),
        # PyTorch's, which they took. That of optax.rmsprop has its epsilon under the root, where it
        # counts for 1e-4, more than most of the hypergradients of a single weight's decay.
        hyper_optimizer=optax.rmsprop(falling, decay=0.99, eps=1e-8, eps_in_sqrt=False),
        solver=shn.linear_solvers.identity(),
    )
    return shn.fit(
        problem,
        method,
        data,
        decays,
        steps=config.rounds,
        inner_steps=config.inner_steps,
        eval_every=config.rounds // config.evaluations,
        checkpoint_every=config.evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


def _untuned(problem: Problem, data: Data, decays: Any, config: Any) -> Any:
    """Weights after as many steps at the first decays."""
    return shn.train(
        problem,
        optax.adam(config.learning_rate),
        jax.random.key(0),
        decays,
        data.train,
        steps=config.rounds * config.inner_steps,
    ).params


def accuracies(name: str, params: Any, data: Data, config: Any) -> dict[str, float]:
    """Shares of images of each split that are told right."""
    model = network(name, config)

    def share(examples: Any) -> float:
        logits: Any = model.apply({"params": params}, examples.inputs)
        return float(jnp.mean(jnp.argmax(logits, 1) == jnp.argmax(examples.targets, 1)))

    return {split: share(examples) for split, examples in data._asdict().items()}


def claims(
    ends: dict[str, dict[str, float]],
    untuned: dict[str, dict[str, float]],
    histories: dict[str, shn.History],
    counts: dict[str, int],
) -> list[dict[str, Any]]:
    """Claims about the validation images."""
    shown = "; ".join(
        f"{name} ({counts[name]:,} decays) train {100 * each['train']:.0f} %, validation "
        f"{100 * each['valid']:.0f} % ({100 * untuned[name]['valid']:.0f} % at the first decays), "
        f"test {100 * each['test']:.0f} %"
        for name, each in ends.items()
    )
    losses = {name: np.asarray(history.valid_loss) for name, history in histories.items()}
    fell = ", ".join(f"{name} {each[-1]:.3f}" for name, each in losses.items())
    return [
        _results.claim(
            "A decay for each weight fits all 50 validation images, by every network.",
            f"{shown}; validation loss at the end {fell}",
            holds=all(each["valid"] == 1.0 > untuned[name]["valid"] for name, each in ends.items()),
        )
    ]


def draw(histories: dict[str, shn.History], counts: dict[str, int]) -> Figure:
    """Losses of the three splits by rounds, a panel for each network."""
    figure, axes = plt.subplots(
        1, len(histories), figsize=(4.5 * len(histories), 4.2), sharey=True, squeeze=False
    )
    for panel, (name, history) in zip(axes[0], histories.items(), strict=True):
        curves = {
            "training": history.valid_loss_on_train,
            "validation": history.valid_loss,
            "test": history.test_loss,
        }
        looks = zip(_plots.COLORS, _plots.STYLES, curves.items(), strict=False)
        for color, style, (split, losses) in looks:
            panel.plot(history.step, losses, style, color=color, label=split)
        panel.set(yscale="log", xlabel="rounds", title=f"{name}, {counts[name]:,} decays")
    axes[0, 0].set_ylabel("cross-entropy (nats)")
    axes[0, 0].legend()
    return figure


if __name__ == "__main__":
    _launch.main(run)
