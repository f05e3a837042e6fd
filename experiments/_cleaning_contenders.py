"""The contenders of `hyper_cleaning`: hypergradients on all training images, and on minibatches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import shohypernet as shn
from shohypernet.linear_solvers import conjugate_gradient, nystrom
from shohypernet.problem import Problem

JUDGED = "SABA"  # whose weights the figure shows, and whose claims are judged


class Contender(NamedTuple):
    """A method at the budget of the config.

    Attributes:
      build: `build(problem) -> HyperOptimizer`.
      rounds: as many as the budget allows.
      sizes: of the rounds, for `fit`.
      images: number of training images in a gradient.
    """

    build: Callable[[Problem], shn.HyperOptimizer]
    rounds: int
    sizes: dict[str, Any]
    images: int


def contenders(config: Any) -> dict[str, Contender]:
    """Each method, with the step sizes of the config."""
    inner, products = config.inner_steps, config.products
    batch_size, images = config.batch_size, config.train_examples
    minibatches = {"train_batch_size": batch_size, "valid_batch_size": batch_size}
    adam = optax.adam(config.inner_rate)
    momentum = optax.sgd(config.momentum_rate, momentum=0.9)
    plain = optax.sgd(config.stochastic_rate)

    def whole(
        evaluations: int, build: Callable[..., shn.HyperOptimizer], optimizer: Any, **options: Any
    ) -> Contender:
        rounds = max(1, config.passes // evaluations)
        settings = options | _optimizers(optimizer, config.hyper_rate, rounds)
        sizes = {"inner_steps": inner}
        return Contender(lambda problem: build(problem, **settings), rounds, sizes, images)

    def parts(
        build: Callable[..., shn.HyperOptimizer], sizes: dict[str, Any], **options: Any
    ) -> Contender:
        rounds = max(1, config.passes * images // (4 * batch_size))
        settings = options | _optimizers(plain, config.stochastic_hyper_rate, rounds)
        return Contender(lambda problem: build(problem, **settings), rounds, sizes, batch_size)

    def kronecker(problem: Problem, **settings: Any) -> shn.HyperOptimizer:
        jacobian = shn.jacobians.kronecker(examples=images)
        return shn.centered_response(problem, jacobian, **settings)

    # With all images a round of CG and Nyström takes as many gradients.
    solved = inner + 2 + 2 * products
    blocks = {
        "train_blocks": images // batch_size,
        "valid_blocks": config.valid_examples // batch_size,
    }
    return {
        "centered, Kronecker": whole(inner + 3, kronecker, adam),
        "implicit, CG": whole(solved, shn.implicit, adam, solver=conjugate_gradient(products)),
        "implicit, Nyström": whole(
            solved, shn.implicit, adam, solver=nystrom(products, damping=config.nystrom_damping)
        ),
        "F2SA": whole(3 * inner + 3, shn.f2sa, momentum, multiplier=config.multiplier),
        "SOBA": parts(shn.soba, minibatches),
        JUDGED: parts(shn.saba, {}, **blocks),
    }


def _optimizers(optimizer: Any, hyper_rate: float, rounds: int) -> dict[str, Any]:
    schedule = optax.cosine_decay_schedule(hyper_rate, rounds)
    return {"optimizer": optimizer, "hyper_optimizer": optax.adam(schedule)}
