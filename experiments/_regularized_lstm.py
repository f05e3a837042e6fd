"""An LSTM on characters with seven hyperparameters: four dropouts, DropConnect, two penalties.

    L_train(w, λ) = E_ξ[CE(f(x; w, ξ_λ), y)] + α E[m(h)²] + β E[(h_{t+1} − h_t)²]
    L_valid(w) = CE(f(x; w), y)

h are the states of the last layer and m(h) what dropout leaves of them. All masks are the same for
all steps of a sequence, as in Merity, Keskar and Socher (2018), "Regularizing and Optimizing LSTM
Language Models", arXiv:1708.02182.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments._text import Text
from shohypernet import regularizers
from shohypernet.batches import Data, Examples
from shohypernet.problem import Problem

LEAST = 1e-6  # of a strength, in place of nothing


class CharacterLSTM(nn.Module):
    """Characters so far to logits of the next, and the states of the last layer.

    Attributes:
      characters: number of different ones.
      embedding: length of a character's embedding.
      units: of each layer.
      layers: number of LSTM layers.
    """

    characters: int
    embedding: int
    units: int
    layers: int

    @nn.compact
    def __call__(self, text: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Outputs, (n, T, …), of texts of whole numbers, (n, T)."""

        def dropped(name: str, values: jax.Array) -> jax.Array:
            drop = nn.Dropout(0.0, broadcast_dims=(1,), name=name)
            return drop(values, deterministic=not train)

        made = dropped("characters", jax.nn.one_hot(text, self.characters))
        made = dropped("inputs", nn.Dense(self.embedding, use_bias=False, name="embed")(made))
        states = made
        for i in range(self.layers):
            made = dropped("between_layers", made) if i == 1 else made
            made = states = nn.RNN(nn.LSTMCell(self.units), name=f"lstm_{i}")(made)
        made = dropped("outputs", made)
        return {
            "logits": nn.Dense(self.characters, name="out")(made),
            "states": states,
            "dropped_states": made,
        }


def build(text: Text, config: Any) -> Problem:
    """The problem; it starts from next to no regularization."""
    model: Any = CharacterLSTM(len(text.alphabet), config.embedding, config.units, config.layers)
    return shn.supervised(
        model,
        jnp.zeros((1, config.sequence), jnp.int32),
        cross_entropy,
        regularizers=[
            regularizers.dropout(0.05),
            regularizers.dropconnect(0.05),
            regularizers.activation_penalty(lambda outputs: outputs["dropped_states"], 1e-4),
            regularizers.temporal_activation_penalty(lambda outputs: outputs["states"], 1e-4),
        ],
        train_kwargs={"train": True},
    )


def cross_entropy(outputs: dict[str, jax.Array], targets: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats of the next characters."""
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], targets)
    return jnp.mean(losses)


def sequences(text: Text, config: Any) -> Data:
    """The three splits cut into sequences; each character but the first of one is predicted."""

    def cut(characters: np.ndarray) -> Examples:
        count = (len(characters) - 1) // config.sequence
        inputs, targets = (
            jnp.asarray(characters[first:][: count * config.sequence].reshape(count, -1))
            for first in range(2)
        )
        return Examples(inputs, targets)

    return Data(cut(text.train[: config.train_characters]), cut(text.valid), cut(text.test))


def without_regularization(problem: Problem) -> Any:
    """Hyperparameters at which next to nothing happens."""
    return jax.tree.map(lambda value: LEAST * (1 + LEAST), problem.start)


def optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Adam on a cosine with clipped gradients, for all networks."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, steps)
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(schedule))


def retrainer(problem: Problem, data: Data, config: Any) -> Callable[[int, Any], float]:
    """A function that trains anew on training and validation text together.

    Args:
      problem: from `build`.
      data: from `sequences`.
      config: of the experiment.

    Returns:
      `retrain(seed, recipe)`, bits per character of the test text; a recipe is hyperparameters in
      natural units, or the history of a run, whose schedule is gone through again.
    """
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), data.train, data.valid)
    sizes = {"steps": config.train_again_steps, "batch_size": config.batch_size}

    @jax.jit
    def outcome(key: jax.Array, recipe: Any, both: Examples, test: Examples) -> jax.Array:
        hyperparams = recipe.schedule if isinstance(recipe, shn.History) else recipe
        alpha = optimizer(config, config.train_again_steps)
        params = shn.train(problem, alpha, key, hyperparams, both, **sizes).params
        return problem.valid_loss(params, problem.start, test) / np.log(2)

    # Seeds apart from those of the tuning.
    return lambda seed, recipe: float(
        outcome(jax.random.key(1_000 + seed), recipe, both, data.test)
    )
