"""The paper's larger problems: L2 decays of one layer or several, from one to one per weight.

    L_train(w, λ) = MSE(train, w) + (1/10) Σ_i exp(λ_i) w_i²,    L_valid(w) = MSE(valid, w)

With no hidden layer everything about it is known exactly, from `shohypernet.ridge`.
"""

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from shohypernet import ridge
from shohypernet.batches import Data, SplitLosses
from shohypernet.datasets import CLASSES
from shohypernet.models import MLP
from shohypernet.problem import Problem, param_shapes

SCALAR_START = -5.0
DESCENT_START = -6.0
DESCENT_STEPS = 30  # after which the exact path gains on validation alone


class Reference(NamedTuple):
    """Exact results for the linear problem.

    Attributes:
      scalar: the best single log decay.
      scalar_losses: the losses there, s in the attainable gain.
      classes: the best log decay of each class, shape (10,).
      classes_losses: the losses there.
      path: losses before each step of Adam along the exact 7,850-dimensional hypergradient, from
        one decay for all; the last is e in the attainable gain.
      path_end: λ there, shape (785, 10), the bias last.
    """

    scalar: float
    scalar_losses: SplitLosses
    classes: np.ndarray
    classes_losses: SplitLosses
    path: list[SplitLosses]
    path_end: np.ndarray

    def gain(self, valid_loss: Any) -> Any:
        """The attainable gain G = (s − v) / (s − e) of a validation loss v.

        0 is no better than one good scalar decay, and 1 is all that there is before overfitting.
        """
        scalar, exact = self.scalar_losses.valid, self.path[-1].valid
        return (scalar - valid_loss) / (scalar - exact)


def load_data(config: Any) -> Data:
    """The data that a config names."""
    return shn.datasets.load(
        config.data,
        train=config.train_examples,
        valid=config.valid_examples,
        test=config.test_examples,
        directory=config.directory or None,
    )


def described(config: Any) -> str:
    """The data and the numbers of examples, for results.json."""
    return (
        f"{config.data}: {config.train_examples:,} training, {config.valid_examples:,} "
        "validation examples"
    )


def problem_on(
    data: Data, hidden: tuple[int, ...] = (), init_scale: float = 0.01, **options: Any
) -> Problem:
    """The problem for a network with hidden layers, or for a linear model without.

    Further options are those of `shn.supervised`.
    """
    return shn.supervised(
        MLP(CLASSES, hidden, init_scale),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        penalty,
        space=options.pop("space", shn.hyperparameters.log()),
        **options,
    )


def penalty(params: Any, decay: Any) -> Any:
    """Σ_i decay_i w_i² / 10, decays in natural units."""
    return shn.penalties.weight_decay(params, decay) / CLASSES


def decays(problem: Problem, log_decay: float, per: shn.penalties.Grain) -> Any:
    """Decays that start alike, in natural units; per="output" is one per class, linear model."""
    value = float(np.exp(log_decay))
    if per == "output":
        return jnp.full(CLASSES, value)
    return shn.penalties.decays(param_shapes(problem), value, per)


def reference(data: Data) -> Reference:
    """The exact answers for the linear model, in a few seconds."""
    exact = ridge.ridge(data)
    scalar = ridge.optimum(exact, SCALAR_START)
    classes = ridge.optimum(exact, np.full(CLASSES, scalar))
    shape = exact.train.cross.shape
    path = itertools.islice(ridge.descent(exact, np.full(shape, DESCENT_START)), DESCENT_STEPS)
    decays, losses = zip(*path, strict=True)

    def at(log_decay: np.ndarray) -> SplitLosses:
        return ridge.losses(exact, ridge.best_response(exact, log_decay))

    return Reference(float(scalar), at(scalar), classes, at(classes), list(losses), decays[-1])


def retrained(exact: ridge.Ridge, log_decay: Any) -> SplitLosses:
    """The losses of the exact best response to log decays shaped like the weights, or one each."""
    log_decay = to_ridge(log_decay) if isinstance(log_decay, dict) else log_decay
    return ridge.losses(exact, ridge.best_response(exact, log_decay))


def to_ridge(params: Any) -> np.ndarray:
    """The linear model's weights, or a tree like them, in the form of `ridge`: (785, 10)."""
    layer = params["Dense_0"]
    return np.concatenate([np.asarray(layer["kernel"]), np.asarray(layer["bias"])[None]])


def from_ridge(array: np.ndarray) -> Any:
    """The inverse of `to_ridge`, in float32."""
    kernel, bias = array[:-1], array[-1]
    return {"Dense_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}
