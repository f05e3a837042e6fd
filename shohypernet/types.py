"""Types of recurring arguments: trees of arrays, keys, and the functions of a problem."""

from collections.abc import Callable
from typing import Any

import jax
import optax

Key = jax.Array
"""Typed PRNG key, as `jax.random.key` makes it."""

Params = Any
"""Elementary weights w: a tree of floating-point arrays."""

Hyperparams = Any
"""Hyperparameters λ: a tree of arrays or numbers."""

ModelState = Any
"""State of a model besides its weights, such as running averages: a tree of arrays."""

Batch = Any
"""Examples: a tree of arrays with a shared leading axis."""

OptState = Any
"""State of an optax optimizer."""

Space = Any
"""Tree of specs from `hyperparameters`, a prefix of the hyperparameters' tree."""

Optimizer = optax.GradientTransformation | Callable[[Hyperparams], optax.GradientTransformation]
"""Optimizer of the weights, or a function from λ to one, whose step size and momentum are tuned."""

TrainLoss = Callable[..., Any]
"""`train_loss(params, hyperparams, batch, key) -> scalar`, the inner objective L_train."""

ValidLoss = Callable[..., jax.Array]
"""`valid_loss(params, hyperparams, batch) -> scalar`, the outer objective L_valid."""
