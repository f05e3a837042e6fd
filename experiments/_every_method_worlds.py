"""Problems of two levels whose best λ is known exactly, each with the loss of every other λ.

    G(λ) = L_valid(w*(λ), λ)        w* by a closed form, by NumPy or by scikit-learn, in float64
    share left = (G(λ) − G(λ*)) / (G(λ₀) − G(λ*))

The share is 1 where a method starts, 0 at the exact answer, and means the same in every world.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

from experiments import _duopoly, _gan_games, _maml, _zero_sum
from experiments import _meta_tasks as tasks
from experiments._meta_tasks import Quadratics
from shohypernet.batches import Data
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams, Optimizer

MOMENTUM = 0.5
MINIMUM, TRAINING = "the minimum", "a training"


class World(NamedTuple):
    """A problem, how its weights are trained, and its exact answer; λ is in natural units.

    Attributes:
      problem: the problem; the prior of its space is the box that searches look in.
      data: its splits.
      start: λ₀.
      best: λ*.
      loss: G.
      step_size: of the weights' optimizer, 1 / the largest curvature of L_train or so.
      optimizer: of the weights.
      steps: of a training from w₀ that ends at w*.
      blocks: of training and of validation examples, for `saba`.
      answers: MINIMUM if w*(λ) is where training ends however long it is, or TRAINING if it is the
        weights after those steps and no others.
      elsewhere: λ where methods rest that aim at another point, by their names, if it is known.
    """

    problem: Problem
    data: Data
    start: Hyperparams
    best: Hyperparams
    loss: Callable[[Hyperparams], float]
    step_size: float
    optimizer: Optimizer
    steps: int
    blocks: tuple[int, int] = (1, 1)
    answers: str = MINIMUM
    elsewhere: Mapping[str, float] = {}


def share_left(world: World, hyperparams: Hyperparams) -> float:
    """(G(λ) − G*) / (G(λ₀) − G*), NaN for a λ that isn't finite."""
    leaves = jax.tree.leaves(hyperparams)
    if not all(np.all(np.isfinite(leaf)) for leaf in leaves):
        return float("nan")
    least, first = world.loss(world.best), world.loss(world.start)
    return (world.loss(hyperparams) - least) / (first - least)


def heavy_ball(step_size: float) -> optax.GradientTransformation:
    return optax.sgd(step_size, momentum=MOMENTUM)


def nothing() -> Data:
    zeros: Any = jnp.zeros(1)
    return Data(zeros, zeros, None)


def alike(examples: Any) -> Data:
    """The same examples to train and to validate on, in float32."""
    each = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), examples)
    return Data(each, each, None)


def duopoly(config: Any) -> World:
    """Cournot's duopoly with a leader (`_duopoly`): λ* = (a − c)/(2b)."""
    given = config.duopoly
    best, _ = _duopoly.stackelberg(given)
    nash, _ = _duopoly.nash(given)
    # With 1 in place of the curvature 2b the response would be −b/1 and not −b/(2b).
    by_identity = 2 * best / (3 - 2 * given.slope)

    def loss(hyperparams: Hyperparams) -> float:
        mine = float(hyperparams)
        response = (given.intercept - given.cost - given.slope * mine) / (2 * given.slope)
        return -mine * (given.intercept - given.slope * (mine + response) - given.cost)

    step = 1 / (2 * given.slope)
    return World(
        _duopoly.build(given),
        nothing(),
        jnp.float32(given.start),
        best,
        loss,
        step,
        heavy_ball(step),
        config.steps,
        elsewhere={"simultaneous, no response": nash, "implicit, identity": by_identity},
    )


def dirac(config: Any) -> World:
    """The Dirac-GAN (`_gan_games`): its equilibrium is λ = 0."""
    given = config.dirac
    game = _gan_games.GAMES["Dirac-GAN"]
    decay = _gan_games.decay(game, given)

    def loss(hyperparams: Hyperparams) -> float:
        lam = float(hyperparams)

        def lost(w: float) -> float:
            return np.logaddexp(0, -lam * w) + decay / 2 * w**2

        bound = abs(lam) / decay + 1
        found: Any = scipy.optimize.minimize_scalar(lost, bounds=(-bound, bound), method="bounded")
        return -float(found.fun)

    step = 1 / (decay + given.start**2 / 4)
    return World(
        _gan_games.build(game, given),
        nothing(),
        jnp.float32(given.start),
        0.0,
        loss,
        step,
        heavy_ball(step),
        config.steps,
    )


def pennies(config: Any) -> World:
    """Matching pennies with a leader (`_zero_sum`), who is best off at ½."""
    given = config.pennies
    payoffs = _zero_sum.GAMES["matching pennies"]

    def loss(hyperparams: Hyperparams) -> float:
        p = _softmax(np.asarray(hyperparams, np.float64))
        return -float(p @ payoffs @ _softmax(-payoffs.T @ p / given.temperature))

    step = given.step_size
    return World(
        _zero_sum.leader_problem(payoffs, given.temperature),
        nothing(),
        jnp.asarray(given.start, jnp.float32),
        np.zeros(2),
        loss,
        step,
        heavy_ball(step),
        config.steps,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def maml(config: Any) -> World:
    """MAML on quadratic tasks (`_maml`): θ* for so many steps of the very training, and no more."""
    given = config.maml
    task = tasks.quadratics(given.tasks, given.dimensions)
    theta = jnp.full(given.dimensions, given.start)
    training = given.step_size, given.steps, MOMENTUM
    problem = _maml.without_rate(_maml.problem(theta, tasks.quadratic_loss, given.tasks))

    def loss(hyperparams: Hyperparams) -> float:
        return tasks.adapted_loss(task, np.asarray(hyperparams["theta"], np.float64), *training)

    return World(
        problem,
        alike(task),
        {"theta": theta},
        {"theta": tasks.closed_form(task, *training)},
        loss,
        given.step_size,
        heavy_ball(given.step_size),
        given.steps,
        answers=TRAINING,
    )


def implicit_maml(config: Any) -> World:
    """Implicit MAML on the same tasks, whose weights end at a minimum near θ (`_maml`)."""
    given = config.maml
    task = tasks.quadratics(given.tasks, given.dimensions)
    theta = jnp.full(given.dimensions, given.start)
    problem = _maml.proximal_problem(theta, tasks.quadratic_loss, given.tasks, given.proximity)

    def loss(hyperparams: Hyperparams) -> float:
        return _proximal_loss(task, np.asarray(hyperparams["theta"], np.float64), given.proximity)

    return World(
        problem,
        alike(task),
        {"theta": theta},
        {"theta": tasks.implicit_form(task, given.proximity)},
        loss,
        given.step_size,
        heavy_ball(given.step_size),
        config.steps,
    )


def _proximal_loss(task: Quadratics, theta: np.ndarray, proximity: float) -> float:
    """Mean loss at the minima of L_i(w) + (ρ/2) ‖w − θ‖²."""
    total = 0.0
    for matrix, center in zip(task.curvatures, task.centers, strict=True):
        held = matrix + proximity * np.eye(len(theta))
        away = np.linalg.solve(held, matrix @ center + proximity * theta) - center
        total += away @ matrix @ away / 2
    return float(total / len(task.centers))
