"""The paper's larger problems: L2 decays of one layer or several, from one number to one a weight.

    L_train(w, λ) = MSE(train, w) + (1/10) Σ_i exp(λ_i) w_i²,    L_valid(w) = MSE(valid, w)

With no hidden layer everything about it is known exactly, from `shohypernet.ridge`.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from shohypernet import ridge
from shohypernet.batches import CLASSES, Data, load
from shohypernet.models import MLP
from shohypernet.problem import Problem
from shohypernet.ridge import Losses

SCALAR_START = -5.0
DESCENT_START = -6.0
DESCENT_STEPS = 30  # after which the exact path gains on validation alone


class Reference(NamedTuple):
    """What the linear problem allows, exactly.

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
    scalar_losses: Losses
    classes: np.ndarray
    classes_losses: Losses
    path: list[Losses]
    path_end: np.ndarray

    def gain(self, valid_loss: Any) -> Any:
        """The attainable gain G = (s − v) / (s − e) of a validation loss v.

        0 is no better than one good scalar decay, and 1 is all that there is before overfitting.
        """
        scalar, exact = self.scalar_losses.valid, self.path[-1].valid
        return (scalar - valid_loss) / (scalar - exact)


def load_data(config: Any) -> Data:
    """The data that a config names."""
    return load(
        config.data,
        train=config.train_examples,
        valid=config.valid_examples,
        test=config.test_examples,
        directory=config.directory or None,
    )


def problem_on(data: Data, hidden: tuple[int, ...] = (), init_scale: float = 0.01) -> Problem:
    """The problem for a network with hidden layers, or for a linear model without."""
    return shn.supervised(
        MLP(CLASSES, hidden, init_scale),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        lambda params, decay: shn.penalties.weight_decay(params, decay) / CLASSES,
        space=shn.hyperparameters.log(),
    )


def log_decays(problem: Problem, value: float, per: shn.penalties.Grain) -> Any:
    """Log decays that start alike; `per="output"` is one a class of the linear model."""
    if per == "output":
        return jnp.full(CLASSES, value)
    params = jax.eval_shape(problem.init, jax.random.key(0))
    return shn.penalties.decays(params, value, per)


def reference(data: Data) -> Reference:
    """The exact answers for the linear model, in a few seconds."""
    exact = ridge.ridge(data)
    scalar = ridge.optimum(exact, SCALAR_START)
    classes = ridge.optimum(exact, np.full(CLASSES, scalar))
    shape = exact.train.cross.shape
    path = itertools.islice(ridge.descent(exact, np.full(shape, DESCENT_START)), DESCENT_STEPS)
    decays, losses = zip(*path, strict=True)

    def at(log_decay: np.ndarray) -> Losses:
        return ridge.losses(exact, ridge.best_response(exact, log_decay))

    return Reference(float(scalar), at(scalar), classes, at(classes), list(losses), decays[-1])


def to_ridge(params: Any) -> np.ndarray:
    """The linear model's weights, or anything like them, as `ridge` has them: (785, 10)."""
    layer = params["Dense_0"]
    return np.concatenate([np.asarray(layer["kernel"]), np.asarray(layer["bias"])[None]])


def from_ridge(array: np.ndarray) -> Any:
    """The inverse of `to_ridge`, in float32."""
    kernel, bias = array[:-1], array[-1]
    return {"Dense_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}
