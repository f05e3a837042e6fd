"""A 7×7×16×16 kernel generated from an embedding of four numbers, beside an ordinary one.

Two networks of two convolutions and one dense layer are trained on the same batches and crops. In
one of them the kernel of the second convolution comes from `models.GeneratedConv`: a third of the
numbers, for nearly the same error (Ha, Dai and Le, 2016, arXiv:1609.09106, section 4.1).

python -m experiments.hypernetwork_mnist --config=configs/hypernetwork_mnist.py --workdir=DIR
"""

import functools
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import _decay_problem, _launch, _plots, _results
from shohypernet.batches import Data, Examples
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.models import GeneratedConv

NAME = "hypernetwork_mnist"
PLAIN, GENERATED = "ordinary kernel", "generated kernel"
COLORS = {PLAIN: _plots.COLORS[0], GENERATED: _plots.COLORS[1]}
MOST_IMAGES = 1_000  # evaluated at a time


class Network(nn.Module):
    """Two convolutions and a dense layer; `second` makes the second convolution."""

    channels: int
    window: tuple[int, int]
    second: Any = nn.Conv

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits of images, (n, 28, 28, 1)."""
        for layer in (nn.Conv, self.second):
            # ReLU last: the same numbers, a quarter of them.
            images = nn.relu(halved(layer(self.channels, self.window)(images)))
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


def halved(images: jax.Array) -> jax.Array:
    """Greatest numbers of 2×2 pixels: `nn.max_pool`, whose way back takes XLA's CPU far longer."""
    rows = jnp.maximum(images[:, ::2], images[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


class Evaluation(NamedTuple):
    """Errors in percent of a network in training; with arrays, of a whole training.

    Attributes:
      epoch: how many there were before.
      valid: error on the validation images.
      test: likewise on the test images.
      seconds: of the processor in training so far, without evaluations and compilation.
    """

    epoch: Any
    valid: Any
    test: Any
    seconds: Any


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train both networks for each seed, and compare their test errors."""
    del resume  # nothing is kept on the way
    _require_sensible(config)
    data = _decay_problem.load_data(config)
    both = networks(config)
    counts = {name: numbers(network) for name, network in both.items()}
    by_seed = [side_by_side(both, data, seed, config) for seed in config.seeds]
    found = {name: stacked([each[name] for each in by_seed]) for name in both}

    _plots.save_figure(draw(found), workdir, NAME)
    arrays = {
        f"{name}: {field}": value
        for name, each in found.items()
        for field, value in each._asdict().items()
    }
    _results.save_arrays(workdir, NAME, arrays)
    last = {name: each.test[:, -1] for name, each in found.items()}
    seconds = {name: each.seconds[:, -1] for name, each in found.items()}
    rows = [
        [name, f"{count:,}", _results.mean_and_range(last[name], 2), f"{seconds[name].mean():.0f}"]
        for name, count in counts.items()
    ]
    print(_results.table(["", "numbers", "test error, %", "CPU seconds"], rows))
    return {
        "main": {f"test error, %, {name}": _results.listed(each) for name, each in last.items()},
        "claims": claims(counts, last),
        "numbers": counts,
        "seconds": _results.listed(seconds),
    }


def _require_sensible(config: Any) -> None:
    if config.batch_size > config.train_examples or config.epochs % config.evaluations:
        raise ValueError(
            "batch_size must be at most train_examples, and evaluations divide epochs, got "
            f"{config.batch_size}, {config.train_examples}, {config.evaluations} and "
            f"{config.epochs}."
        )


def networks(config: Any) -> dict[str, Network]:
    """Both networks, by their kernel."""
    window = (config.window, config.window)
    sizes = {"embedding_size": config.embedding, "hidden": config.hidden}
    return {
        PLAIN: Network(config.channels, window),
        GENERATED: Network(config.channels, window, functools.partial(GeneratedConv, **sizes)),
    }


def numbers(network: Network) -> int:
    """How many numbers a network learns."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *IMAGE_SHAPE, 1)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def side_by_side(
    networks: dict[str, Network], data: Data, seed: int, config: Any
) -> dict[str, Evaluation]:
    """Train the networks by turns, so that one looks at equal epochs of both; leaves (E,)."""
    trainings = [train(network, data, seed, config) for network in networks.values()]
    found: dict[str, list[Evaluation]] = {name: [] for name in networks}
    for at_epoch in zip(*trainings, strict=True):
        for (name, course), each in zip(found.items(), at_epoch, strict=True):
            course.append(each)
            print(
                f"seed {seed}, epoch {each.epoch}, {name}: error {each.valid:.2f} % (validation), "
                f"{each.test:.2f} % (test), {each.seconds:.0f} s"
            )
    return {name: stacked(course) for name, course in found.items()}


def stacked(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Many as one with arrays."""
    return Evaluation(*map(np.array, zip(*evaluations, strict=True)))


def train(network: Network, data: Data, seed: int, config: Any) -> Iterator[Evaluation]:
    """Train a network; batches, crops and the order of the images depend on the seed alone."""
    schedule = optax.exponential_decay(
        config.learning_rate,
        1,
        config.learning_rate_factor,
        end_value=config.least_learning_rate,
    )
    optimizer = optax.chain(optax.clip(config.clip), optax.adam(schedule))

    # Step by step, for XLA's convolutions are several times as slow in a loop on a CPU.
    @jax.jit
    def step(state: Any, examples: Examples, rows: np.ndarray, key: jax.Array) -> Any:
        params, opt_state = state
        images, targets = (leaf[rows] for leaf in examples)

        def loss(params: Any) -> jax.Array:
            logits: Any = network.apply(params, cropped(key, images, config.enlargement))
            return optax.softmax_cross_entropy(logits, targets).mean()

        change, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, change), opt_state

    key_init, key_crops = jax.random.split(jax.random.key(seed))
    params = network.init(key_init, jnp.zeros((1, *IMAGE_SHAPE, 1)))
    state, rng, seconds = (params, optimizer.init(params)), np.random.default_rng(seed), 0.0
    compiled = step.lower(state, data.train, np.arange(config.batch_size), key_crops).compile()
    errors = jax.jit(lambda params, examples: _wrong(network, params, examples))
    for epoch in range(1, config.epochs + 1):
        order, began = rng.permutation(config.train_examples), time.process_time()
        for i in range(config.train_examples // config.batch_size):
            rows = order[i * config.batch_size :][: config.batch_size]
            key = jax.random.fold_in(jax.random.fold_in(key_crops, epoch), i)
            state = compiled(state, data.train, rows, key)
        jax.block_until_ready(state)
        seconds += time.process_time() - began
        if epoch % (config.epochs // config.evaluations) == 0:
            valid, test = (percent_wrong(errors, state[0], split) for split in data[1:])
            yield Evaluation(epoch, valid, test, seconds)


def cropped(key: jax.Array, images: jax.Array, enlargement: int) -> jax.Array:
    """Crops of flat images, (n, 784), that have a black border: (n, 28, 28, 1)."""
    before = enlargement // 2
    border = (before, enlargement - before)
    enlarged = jnp.pad(images.reshape(-1, *IMAGE_SHAPE), ((0, 0), border, border))
    corners = jax.random.randint(key, (len(images), 2), 0, enlargement + 1)
    crop = functools.partial(jax.lax.dynamic_slice, slice_sizes=IMAGE_SHAPE)
    return jax.vmap(crop)(enlarged, corners)[..., None]


def _wrong(network: Network, params: Any, examples: Examples) -> jax.Array:
    logits: Any = network.apply(params, examples.inputs.reshape(-1, *IMAGE_SHAPE, 1))
    return jnp.sum(jnp.argmax(logits, -1) != jnp.argmax(examples.targets, -1))


def percent_wrong(wrong: Any, params: Any, examples: Examples) -> float:
    """The error on a split, whole images, some at a time."""
    count = len(examples.targets)
    parts = [
        wrong(params, jax.tree.map(lambda leaf, at=at: leaf[at : at + MOST_IMAGES], examples))
        for at in range(0, count, MOST_IMAGES)
    ]
    return 100 * float(sum(parts)) / count


def claims(counts: dict[str, int], errors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Claims about sizes, and about mean test errors."""
    shown = {name: _results.mean_and_range(each, 2) for name, each in errors.items()}
    return [
        _results.claim(
            "The network with the generated kernel has 12,910 numbers, the ordinary one 21,210.",
            f"{counts[GENERATED]:,} against {counts[PLAIN]:,}",
            holds=(counts[GENERATED], counts[PLAIN]) == (12_910, 21_210),
        ),
        _results.claim(
            "Its test error is within 0.1 points of the ordinary one's.",
            f"{shown[GENERATED]} % against {shown[PLAIN]} %",
            holds=bool(errors[GENERATED].mean() <= errors[PLAIN].mean() + 0.1),
        ),
    ]


def draw(found: dict[str, Evaluation]) -> Figure:
    """Test errors on the way, a line for each seed; leaves (seeds, E)."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for name, each in found.items():
        lines = axes.plot(each.epoch.T, each.test.T, "o-", markersize=3, color=COLORS[name])
        lines[0].set_label(name)
    axes.set(xlabel="epochs", ylabel="test error (%)", ylim=(0, None))
    axes.legend()
    return figure


if __name__ == "__main__":
    _launch.main(run)
