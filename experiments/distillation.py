"""Ten distilled images, one for each class: the hyperparameters are what the model is trained on.

    L_train(w, λ) = cross-entropy of the ten images λ + (e⁻⁴/2) ‖w‖²,    L_valid on real images

Lorraine, Vicol and Duvenaud (2020), "Optimizing Millions of Hyperparameters by Implicit
Differentiation", arXiv:1911.02590. The first such distillation: Wang, Zhu, Torralba
and Efros (2018), "Dataset Distillation", arXiv:1811.10959.

python -m experiments.distillation --config=configs/distillation.py --workdir=DIR
"""

import functools
import pathlib
from collections.abc import Callable
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
from shohypernet.batches import Data, Examples
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.problem import Problem

NAME = "distillation"
REAL, MEANS, ALL = "ten real images", "means of the classes", "all images"
LABELS = {"implicit": "distilled, implicit", "centered": "distilled, hyper-trained"}
PIXELS = IMAGE_SHAPE[0] * IMAGE_SHAPE[1]


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Distill by each method, train from scratch on what there is, and draw it."""
    loaded = _decay_problem.load_data(config)
    real = jax.tree.map(lambda *parts: jnp.concatenate(parts), loaded.train, loaded.valid)
    data = Data(_first(loaded.train, CLASSES), real, loaded.test)
    images, seconds = {}, {}
    for name in config.methods:
        print(f"{LABELS[name]}: {config.rounds:,} rounds.", flush=True)
        result = distilled(name, data, config, workdir / name, resume=resume)
        images[LABELS[name]] = np.asarray(result.hyperparams)[None]
        seconds[LABELS[name]] = float(result.history.seconds[-1])
    images |= {MEANS: class_means(real)[None], REAL: real_images(real, config.real_draws)}
    print("Training from scratch.", flush=True)
    found = accuracies(images, data, config)
    _plots.save_figure(draw(images, found), workdir, NAME)
    _results.save_arrays(workdir, NAME, images)
    rows = [[name, *(f"{100 * each:.1f} %" for each in pair)] for name, pair in found.items()]
    print(_results.table(["trained on", "linear", "network"], rows))
    return {
        "main": {name: linear for name, (linear, _) in found.items()},
        "claims": claims(found, seconds),
        "accuracies": found,
        "seconds": seconds,
        "real_images": len(real.inputs),
    }


def _first(examples: Examples, count: int) -> Examples:
    """Some real examples in place of a training split, which nothing here is trained on."""
    return jax.tree.map(lambda part: part[:count], examples)


def build(config: Any) -> Problem:
    """The problem, whose batches only the validation loss reads."""
    model = nn.Dense(CLASSES, kernel_init=nn.initializers.zeros)

    def logits(params: Any, inputs: jax.Array) -> Any:
        return model.apply({"params": params}, inputs)

    def train_loss(params: Any, images: jax.Array, batch: Any, key: Any) -> jax.Array:
        decay = np.exp(config.decay) / 2 * optax.tree.norm(params, squared=True)
        return cross_entropy(logits(params, images), jnp.eye(CLASSES)) + decay

    return Problem(
        init=lambda key: model.init(key, jnp.zeros((1, PIXELS)))["params"],
        train_loss=train_loss,
        valid_loss=lambda params, images, batch: cross_entropy(
            logits(params, batch.inputs), batch.targets
        ),
        space=shn.hyperparameters.real(),
    )


def distilled(
    name: str, data: Data, config: Any, folder: pathlib.Path, *, resume: bool
) -> shn.Result:
    """The run of a method, whose λ are the images, shape (10, 784)."""
    problem = build(config)
    schedule = optax.cosine_decay_schedule(config.hyper_learning_rate, config.rounds)
    both: dict[str, Any] = {
        "optimizer": optax.adam(config.learning_rate),
        "hyper_optimizer": optax.adam(schedule),
    }
    if name == "implicit":
        solver = shn.linear_solvers.conjugate_gradient(config.products)
        method = shn.implicit(problem, solver=solver, **both)
    else:
        jacobian = shn.jacobians.kronecker(refresh_every=config.refresh_every)
        method = shn.centered_response(problem, jacobian, **both)
    start = config.start * jax.random.normal(jax.random.key(0), (CLASSES, PIXELS))
    return shn.fit(
        problem,
        method,
        data,
        start,
        steps=config.rounds,
        inner_steps=config.inner_steps,
        valid_batch_size=config.batch_size,
        eval_every=config.rounds // config.evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


def class_means(examples: Examples) -> np.ndarray:
    """The mean image of each class, shape (10, 784)."""
    inputs, targets = (np.asarray(part, np.float64) for part in examples)
    return targets.T @ inputs / targets.sum(0)[:, None]


def real_images(examples: Examples, draws: int) -> np.ndarray:
    """One real image of each class, the first, the second, … of each, shape (draws, 10, 784)."""
    classes = np.argmax(examples.targets, axis=1)
    numbers = np.stack([np.flatnonzero(classes == label)[:draws] for label in range(CLASSES)])
    return np.asarray(examples.inputs)[numbers.T]


def accuracies(
    images: dict[str, np.ndarray], data: Data, config: Any
) -> dict[str, tuple[float, float]]:
    """Test accuracies of a linear model and of a network with one hidden layer, from scratch.

    On images, (draws, 10, 784), it is the mean of the draws. Distilled images are trained on at the
    decay that they were made for; the rivals have the best of all decays, by the test images.
    """
    decays = jnp.exp(jnp.asarray([config.decay, *config.scratch_decays]))
    every = jnp.concatenate([jnp.asarray(drawn, jnp.float32) for drawn in images.values()])
    labels = jnp.broadcast_to(jnp.eye(CLASSES), (len(every), CLASSES, CLASSES))
    found: dict[str, list[float]] = {name: [] for name in (*images, ALL)}
    for hidden in ((), (config.hidden,)):
        trained = scratch(hidden, config)
        whole = functools.partial(trained, batch_size=config.batch_size)
        over_decays = jax.vmap(trained, (None, 0, None))
        over_all = jax.jit(jax.vmap(over_decays, (0, None, None)))
        scores = np.asarray(over_all(Examples(every, labels), decays, data.test))
        ends = np.cumsum([len(drawn) for drawn in images.values()])[:-1]
        for name, part in zip(images, np.split(scores, ends), strict=True):
            own, *others = part.mean(0)
            found[name].append(float(own if name in LABELS.values() else max(others)))
        found[ALL].append(float(jax.jit(whole)(data.valid, decays.min(), data.test)))
    return {name: (linear, network) for name, (linear, network) in found.items()}


def scratch(hidden: tuple[int, ...], config: Any) -> Callable[..., jax.Array]:
    """`trained(examples, decay, test, batch_size=None)`, the test accuracy of fresh weights."""
    layers = [layer for width in hidden for layer in (nn.Dense(width), nn.relu)]
    model = nn.Sequential([*layers, nn.Dense(CLASSES)])
    problem = shn.supervised(
        model,
        jnp.zeros((1, PIXELS)),
        cross_entropy,
        lambda params, decay: shn.penalties.weight_decay(params, decay) / 2,
        space=shn.hyperparameters.log(),
    )

    def trained(
        examples: Examples, decay: jax.Array, test: Examples, batch_size: int | None = None
    ) -> jax.Array:
        params = shn.train(
            problem,
            optax.adam(config.learning_rate),
            jax.random.key(0),
            decay,
            examples,
            steps=config.steps,
            batch_size=batch_size,
        ).params
        logits: Any = model.apply({"params": params}, test.inputs)
        return shn.metrics.accuracy(logits, test.targets)

    return trained


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross-entropy of one-hot targets, in nats."""
    return optax.softmax_cross_entropy(logits, targets).mean()


def claims(
    found: dict[str, tuple[float, float]], seconds: dict[str, float]
) -> list[dict[str, Any]]:
    """Claims about the linear model trained from scratch on ten images."""

    def shown(name: str) -> str:
        linear, network = (f"{100 * each:.1f} %" for each in found[name])
        spent = f", {seconds[name]:.0f} s" if name in seconds else ""
        return f"{name} {linear} (another network {network}){spent}"

    rivals = "; ".join(shown(name) for name in (MEANS, REAL, ALL))
    return [
        _results.claim(
            f"A linear model trained from scratch on ten images, {name}, classifies better than "
            "on ten real images and on the means of the classes.",
            f"{shown(name)}; {rivals}",
            holds=found[name][0] > max(found[MEANS][0], found[REAL][0]),
        )
        for name in seconds
    ]


def draw(images: dict[str, np.ndarray], found: dict[str, tuple[float, float]]) -> Figure:
    """The ten images of each kind (rows), with the accuracies that they lead to."""
    figure, axes = plt.subplots(len(images), CLASSES, figsize=(11, 1.35 * len(images)))
    for row, (name, drawn) in zip(axes, images.items(), strict=True):
        limit = np.abs(drawn[0]).max()
        for panel, pixels in zip(row, drawn[0], strict=True):
            panel.imshow(pixels.reshape(IMAGE_SHAPE), cmap="RdGy", vmin=-limit, vmax=limit)
            panel.axis("off")
        row[0].set_title(f"{name}: {100 * found[name][0]:.1f} %", loc="left", fontsize=9)
    return figure


if __name__ == "__main__":
    _launch.main(run)
