"""Digits of which half the training labels are wrong, and a weight for each training image.

L_train(w, σ) = (1/n) Σ_i σ_i CE(x_i; w) + decay ‖W‖²,    L_valid(w) = CE,    σ_i in (0, 1)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

import shohypernet as shn
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data, Examples, NumberedExamples, numbered
from shohypernet.datasets import CLASSES
from shohypernet.models import MLP
from shohypernet.problem import Problem
from shohypernet.types import Params

MODEL: Any = MLP(CLASSES, init_scale=0.0)  # softmax regression is convex: it may start anywhere
KEPT = 0.5  # the weight from which on an image counts as right


class Found(NamedTuple):
    """Agreement of the wrong labels that were found with those that are wrong.

    Attributes:
      f1: harmonic mean of precision and recall of the labels that were found wrong.
      auc: share of pairs, of a wrong and a right label, that the scores have in order.
    """

    f1: float
    auc: float


def corrupted(data: Data, seed: int) -> tuple[Data, np.ndarray]:
    """Data with exactly half the training labels replaced by a different class, and which.

    Args:
      data: three splits.
      seed: of the images and the classes that are drawn.

    Returns:
      The data, whose training examples are numbered, and a boolean for each of them.
    """
    rng = np.random.default_rng(seed)
    labels = np.argmax(data.train.targets, 1)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.choice(len(labels), len(labels) // 2, replace=False)] = True
    others = (labels + rng.integers(1, CLASSES, len(labels))) % CLASSES
    targets = jax.nn.one_hot(np.where(wrong, others, labels), CLASSES)
    train = numbered(data.train._replace(targets=targets))
    return data._replace(train=train), wrong


def cross_entropies(params: Params, examples: Examples | NumberedExamples) -> jax.Array:
    """The loss of each example, shape (n,), in nats."""
    logits = MODEL.apply({"params": params}, examples.inputs)
    return optax.softmax_cross_entropy(logits, examples.targets)


def right(params: Params, examples: Examples | NumberedExamples) -> np.ndarray:
    """Whether the model's class is that of the label, for each example."""
    logits = MODEL.apply({"params": params}, examples.inputs)
    return np.asarray(jnp.argmax(logits, 1) == jnp.argmax(examples.targets, 1))


def build(features: int, decay: Any) -> Problem:
    """Softmax regression whose hyperparameters are a weight for each training example."""

    def init(key: jax.Array) -> Params:
        return MODEL.init(key, jnp.zeros((1, features)))["params"]

    def train_loss(
        params: Params, weights: jax.Array, batch: NumberedExamples, key: jax.Array
    ) -> jax.Array:
        del key
        loss = shn.losses.weighted(cross_entropies(params, batch), weights, batch.numbers)
        return loss + shn.penalties.weight_decay(params, {"Dense_0": {"kernel": decay}})

    def valid_loss(params: Params, weights: jax.Array, batch: Examples) -> jax.Array:
        del weights
        return jnp.mean(cross_entropies(params, batch))

    return Problem(init, train_loss, valid_loss, hp.bounded(0.0, 1.0))


def trainer(data: Data, config: Any) -> Callable[[np.ndarray, np.ndarray, float], Params]:
    """A function that trains from scratch on training and validation images of given weights.

    Args:
      data: from `corrupted`.
      config: of the experiment.

    Returns:
      `train(of_train, of_valid, decay) -> params`, weights in any unit.
    """
    train, valid = (Examples(split.inputs, split.targets) for split in data[:2])
    both = numbered(jax.tree.map(lambda *parts: jnp.concatenate(parts), train, valid))
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.train_steps)

    @jax.jit
    def trained(weights: jax.Array, decay: Any, both: NumberedExamples) -> Params:
        problem = build(both.inputs.shape[1], decay)
        mean = weights / jnp.mean(weights)  # of those that are kept, whose loss is a mean again
        return shn.train(
            problem, optax.adam(schedule), jax.random.key(0), mean, both, steps=config.train_steps
        ).params

    def run(of_train: np.ndarray, of_valid: np.ndarray, decay: float) -> Params:
        weights = np.concatenate([of_train, of_valid]).astype(np.float32)
        return trained(jnp.asarray(weights), decay, both)

    return run


def found(suspected: np.ndarray, scores: np.ndarray, wrong: np.ndarray) -> Found:
    """F1 and AUC of labels that were found wrong.

    Args:
      suspected: whether each label was found wrong.
      scores: greater for labels that are more probably wrong.
      wrong: whether they are.
    """
    hits = np.sum(suspected & wrong)
    f1 = 2 * hits / (np.sum(suspected) + np.sum(wrong))
    pairs = np.sum(wrong) * np.sum(~wrong)
    auc = stats.mannwhitneyu(scores[wrong], scores[~wrong]).statistic / pairs
    return Found(float(f1), float(auc))
