"""Reasons why a hyperparameter can't be tuned, for errors and reports."""

DECIDES = (
    "the model decides in Python on the value of a hyperparameter, as flax.linen.Dropout(rate) "
    "does, but JAX traces values and runs no Python on them. Choose by jnp.where, or draw the mask "
    "yourself: jax.random.bernoulli(key, 1 - rate, shape)."
)
WITHOUT_WEIGHTS = (
    "changes the training loss by as much for all weights, and so not where its minimum lies."
)
WITHOUT_DERIVATIVE = (
    "changes a loss but has no derivative: it goes through a rounding, a comparison or a "
    "stop_gradient, or is only the odds of something drawn. Make it smooth, or search for it."
)
NOT_IN_LOSSES = (
    "enters neither loss, and this method sees nothing else. A decay must be a penalty in "
    "train_loss, not a setting of the optimizer as in optax.adamw; a step size or momentum doesn't "
    "move the minimum of the training loss. unrolled(), truncated(), forward() and real_time() can "
    "tune what the inner optimizer reads."
)
