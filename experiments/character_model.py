"""Bits per character of an LSTM, a LayerNorm-LSTM and a HyperLSTM of equal size.

All three get the same numbers of parameters and of steps, and the same batches of text; what each
takes in seconds is drawn beside (Ha, Dai and Le, 2016, arXiv:1609.09106, section 4.3).

python -m experiments.character_model --config=configs/character_model.py --workdir=DIR
"""

import bisect
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import _launch, _plots, _results, _text
from experiments._text import Text
from shohypernet.models import HyperLSTMCell, LayerNormLSTMCell

NAME = "character_model"
LSTM, NORMALIZED, HYPER = "LSTM", "LayerNorm-LSTM", "HyperLSTM"
COLORS: dict[str, str] = dict(zip((LSTM, NORMALIZED, HYPER), _plots.COLORS, strict=False))
MOST_UNITS = 4_096


class CharacterModel(nn.Module):
    """Characters so far to logits of the next."""

    cell: nn.RNNCellBase
    characters: int

    @nn.compact
    def __call__(self, text: jax.Array) -> jax.Array:
        """Logits, (n, T, characters), of texts of whole numbers, (n, T)."""
        hidden: Any = nn.RNN(self.cell)(jax.nn.one_hot(text, self.characters))
        return nn.Dense(self.characters)(hidden)

    @nn.nowrap
    def start(self, key: jax.Array) -> Any:
        """Initial weights; gates that forget are biased by 1, as our own cells have them."""
        variables: Any = self.init(key, jnp.zeros((1, 1), int))
        cell = variables["params"]["cell"]
        if "hf" in cell:  # Flax's LSTM
            cell["hf"]["bias"] = cell["hf"]["bias"] + 1
        return variables


class Course(NamedTuple):
    """Course of a training, arrays of shape (E,); and in the end.

    Attributes:
      steps: that were done at an evaluation.
      seconds: of the processor in training up to then, without compilation and evaluations.
      valid: bits per character of the validation text.
      test: bits per character of the test text with the weights that validated best.
    """

    steps: np.ndarray
    seconds: np.ndarray
    valid: np.ndarray
    test: float


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train the three models for each seed, and compare them."""
    del resume  # nothing is kept on the way
    text = _text.load(config)
    _require_sensible(config, text)
    models = equal_models(config, len(text.alphabet))
    counts = {name: numbers(model) for name, model in models.items()}
    courses: dict[str, list[Course]] = {name: [] for name in models}
    for seed in config.seeds:
        for name, model in models.items():
            units = model.cell.features
            print(f"{name} of {units} units, {counts[name]:,} numbers, seed {seed}.")
            courses[name].append(train(model, text, seed, config))

    _plots.save_figure(draw(courses), workdir, NAME)
    arrays = {
        f"{name}: {field}": np.stack([getattr(each, field) for each in of_seeds])
        for name, of_seeds in courses.items()
        for field in Course._fields
    }
    _results.save_arrays(workdir, NAME, arrays)
    test = {name: arrays[f"{name}: test"] for name in models}
    seconds = {name: arrays[f"{name}: seconds"][:, -1] for name in models}
    rows = [
        [
            name,
            str(model.cell.features),
            f"{counts[name]:,}",
            _results.mean_and_range(arrays[f"{name}: valid"].min(1), 3),
            _results.mean_and_range(test[name], 3),
            f"{seconds[name].mean():.0f}",
        ]
        for name, model in models.items()
    ]
    head = ["", "units", "numbers", "validation, bits per character", "test", "CPU seconds"]
    print(_results.table(head, rows))
    return {
        "main": {f"bits per character, {name}": each.tolist() for name, each in test.items()},
        "claims": claims(test),
        "numbers": counts,
        "units": {name: model.cell.features for name, model in models.items()},
        "seconds": _results.listed(seconds),
    }


def _require_sensible(config: Any, text: Text) -> None:
    longest = min(len(split) for split in text[:3])
    if config.steps % config.evaluations or longest < 2 * max(config.streams, config.sequence):
        raise ValueError(
            "evaluations must divide steps, and each split hold more than two characters for each "
            f"stream and two sequences, got {config.evaluations}, {config.steps}, {longest} "
            f"characters, {config.streams} streams and sequences of {config.sequence}."
        )


def equal_models(config: Any, characters: int) -> dict[str, Any]:
    """The three models, each with as many units as the parameters allow."""

    def largest(cell: Callable[[int], nn.RNNCellBase]) -> CharacterModel:
        def size(units: int) -> int:
            return numbers(CharacterModel(cell(units), characters))

        units = bisect.bisect_right(range(1, MOST_UNITS), config.parameters, key=size)
        if units < 1:
            raise ValueError(
                f"a cell of one unit has {size(1):,} numbers, more than parameters="
                f"{config.parameters:,}: allow more, or make hyper_features smaller."
            )
        return CharacterModel(cell(units), characters)

    inside = config.hyper_features, config.embedding
    return {
        LSTM: largest(nn.OptimizedLSTMCell),
        NORMALIZED: largest(LayerNormLSTMCell),
        HYPER: largest(lambda units: HyperLSTMCell(units, *inside)),
    }


def numbers(model: CharacterModel) -> int:
    """How many numbers a model learns."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.start, _KEY)))


_KEY = jax.random.key(0)


def bits(model: CharacterModel, params: Any, text: jax.Array) -> jax.Array:
    """Mean bits per character of texts, (n, T + 1), given those before."""
    logits: Any = model.apply(params, text[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:]).mean() / np.log(2)


def train(model: CharacterModel, text: Text, seed: int, config: Any) -> Course:
    """Train a model on pieces of the training text, drawn at random, and test it."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps)),
    )
    train_text = jnp.asarray(text.train)
    places = jnp.arange(config.sequence + 1)

    def step(state: Any, key: jax.Array) -> tuple[Any, None]:
        params, opt_state = state
        last = len(train_text) - config.sequence
        first = jax.random.randint(key, (config.batch_size, 1), 0, last)
        pieces = train_text[first + places[None]]
        gradient = jax.grad(lambda params: bits(model, params, pieces))(params)
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), None

    some = config.steps // config.evaluations
    key_init, key_steps = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(key_steps, (config.evaluations, some))
    params = model.start(key_init)
    state: Any = (params, optimizer.init(params))
    steps = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    steps = steps.lower(state, keys[0]).compile()
    evaluate = jax.jit(lambda params, streams: bits(model, params, streams))
    valid, test = (jnp.asarray(streams(split, config.streams)) for split in text[1:3])

    seconds, records, best = 0.0, [], (np.inf, params)
    for i in range(config.evaluations):
        began = time.process_time()
        state = jax.block_until_ready(steps(state, keys[i]))
        seconds += time.process_time() - began
        found = float(evaluate(state[0], valid))
        best = min(best, (found, state[0]), key=lambda each: each[0])
        records.append(((i + 1) * some, seconds, found))
        print(f"  step {records[-1][0]:,}: {found:.3f} bits per character, {seconds:.0f} s")
    at, spent, found = map(np.array, zip(*records, strict=True))
    return Course(at, spent, found, float(evaluate(best[1], test)))


def streams(text: np.ndarray, count: int) -> np.ndarray:
    """A text as `count` streams of equal length, the next one's first character at their ends."""
    length = (len(text) - 1) // count
    first = length * np.arange(count)[:, None]
    return text[first + np.arange(length + 1)]


def claims(test: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Claims about mean bits per character of the test text."""
    shown = "; ".join(f"{name} {_results.mean_and_range(test[name], 3)}" for name in test)
    mean = {name: each.mean() for name, each in test.items()}
    return [
        _results.claim(
            "With equal numbers of parameters and steps, the HyperLSTM needs fewer bits than both.",
            shown,
            holds=bool(mean[HYPER] < min(mean[LSTM], mean[NORMALIZED])),
        )
    ]


def draw(courses: dict[str, list[Course]]) -> Figure:
    """Validation bits against steps and seconds, a line for each seed."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for panel, field in zip(axes, ("steps", "seconds"), strict=True):
        for name, of_seeds in courses.items():
            for i, each in enumerate(of_seeds):
                label = name if i == 0 else None
                panel.plot(getattr(each, field), each.valid, color=COLORS[name], label=label)
        panel.set_xlabel("steps" if field == "steps" else "CPU seconds of training")
    axes[0].set_ylabel("validation text, bits per character")
    axes[0].legend()
    return figure


if __name__ == "__main__":
    _launch.main(run)
