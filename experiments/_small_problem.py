"""The paper's small problem: one decay, a linear model, ten training images.

    L_train(w, λ) = NLL(train, w) + exp(λ)·‖w‖₂,    L_valid(w) = NLL(valid, w),    σ = 0.1

λ is the logarithm of the decay, as in the paper's figures: unconstrained, as methods move it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import shohypernet as shn
from experiments import _plots
from shohypernet.batches import Data
from shohypernet.hypernets import Hypernet
from shohypernet.models import MLP
from shohypernet.problem import Problem


class Curve(NamedTuple):
    """Losses of weights along a grid of λ, arrays of shape (λs,)."""

    hyperparams: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray
    test_loss: np.ndarray

    @property
    def optimum(self) -> float:
        """The λ of least validation loss."""
        return float(self.hyperparams[np.argmin(self.valid_loss)])


def build(config: Any) -> tuple[Problem, Data]:
    """The problem and its data, from a config."""
    data = shn.datasets.load(
        config.data,
        train=config.train_examples,
        valid=config.valid_examples,
        test=config.test_examples,
        directory=config.directory or None,
    )
    return problem_on(data), data


def problem_on(data: Data) -> Problem:
    """The problem, for inputs like those of some data."""
    return shn.supervised(
        MLP(),
        data.train.inputs[:1],
        shn.losses.gaussian_nll,
        shn.penalties.norm_penalty,
        space=shn.hyperparameters.log(),
    )


def cross_validate(problem: Problem, data: Data, config: Any) -> Curve:
    """Algorithm 1 on a grid: a model trained to convergence for each λ, in one compiled call."""
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.cross_learning_rate, config.cross_steps)
    )

    def weights(hyperparams: jax.Array) -> Any:
        return converged(problem, optimizer, hyperparams, data.train, config.cross_steps)

    count = round((config.curve_high - config.curve_low) / config.cross_spacing) + 1
    return _losses(weights, problem, data, np.linspace(config.curve_low, config.curve_high, count))


def converged(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    hyperparams: jax.Array,
    examples: Any,
    steps: int,
) -> Any:
    """Weights trained for one λ, the logarithm of the decay, on all examples in each step."""
    key = jax.random.key(0)
    return shn.train(problem, optimizer, key, jnp.exp(hyperparams), examples, steps=steps).params


def hypernet_curve(
    problem: Problem, hypernet: Hypernet, hypernet_params: Any, data: Data, config: Any
) -> Curve:
    """The losses of a trained hypernet's weights, on a fine grid."""
    return _losses(
        lambda hyperparams: hypernet.apply(hypernet_params, hyperparams),
        problem,
        data,
        np.linspace(config.curve_low, config.curve_high, config.curve_points),
    )


def loss_at(curve: Curve, hyperparams: float) -> float:
    """The validation loss at a λ between a curve's points, by linear interpolation."""
    return float(np.interp(hyperparams, curve.hyperparams, curve.valid_loss))


def curve_arrays(crosses: Curve, learned: Curve) -> dict[str, np.ndarray]:
    """Both curves, for the arrays of a figure."""
    return {
        **{f"cross_{name}": value for name, value in crosses._asdict().items()},
        **{f"learned_{name}": value for name, value in learned._asdict().items()},
    }


def draw_curves(axes: Axes, crosses: Curve, learned: Curve) -> None:
    """Training and validation losses against λ: lines from the hypernet, crosses from training."""
    splits = {"validation": ("valid_loss", "-", "x"), "training": ("train_loss", "--", "+")}
    for color, (name, (split, line, mark)) in zip(_plots.COLORS, splits.items(), strict=False):
        made, trained = getattr(learned, split), getattr(crosses, split)
        axes.plot(learned.hyperparams, made, line, color=color, label=f"{name}, hypernet")
        axes.plot(
            crosses.hyperparams,
            trained,
            mark,
            color=color,
            markersize=5,
            label=f"{name}, trained to convergence",
        )
    drawn = np.concatenate([crosses.valid_loss, crosses.train_loss])
    margin = 0.15 * np.ptp(drawn)
    axes.set(
        xlim=(crosses.hyperparams[0], crosses.hyperparams[-1]),
        # The hypernet's curves may leave the picture where it was never trained.
        ylim=(drawn.min() - margin, drawn.max() + margin),
        xlabel=r"log decay $\lambda$",
        ylabel="negative log-likelihood (nats)",
    )
    axes.axvline(crosses.optimum, color="0.4", linestyle=":", label="cross-validated optimum")


def legend_under(axes: Axes) -> None:
    """A legend of two columns under one panel."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)


def _losses(
    weights: Callable[[jax.Array], Any], problem: Problem, data: Data, grid: np.ndarray
) -> Curve:
    @jax.jit
    @jax.vmap
    def losses(hyperparams: jax.Array) -> list[jax.Array]:
        params = weights(hyperparams)
        return [problem.valid_loss(params, jnp.exp(hyperparams), split) for split in data]

    return Curve(grid, *map(np.asarray, losses(jnp.asarray(grid, jnp.float32))))
