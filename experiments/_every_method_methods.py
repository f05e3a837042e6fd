"""Every method that moves λ, by name, each built for a world by one rule.

Weights are trained by their world's own optimizer, hypernets by Adam on a cosine, and λ by Adam on
a cosine, whose step sizes come from one grid (see `configs/every_method.py`). What else a method
asks for is the same in all worlds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import shohypernet as shn
from experiments._duopoly import UNANSWERED
from experiments._every_method_worlds import MINIMUM, MOMENTUM, TRAINING, World
from shohypernet import hypernets, jacobians, linear_solvers, search
from shohypernet.problem import param_shapes

NASH = "no response"
SCALE = hypernets.PAPER_INIT_SCALE


class Pace(NamedTuple):
    """Step sizes and lengths of a run.

    Attributes:
      hyper_rate: first step size of λ̂.
      hypernet_rate: first step size of φ.
      rounds: R.
      inner_steps: T.
    """

    hyper_rate: Any
    hypernet_rate: Any
    rounds: int
    inner_steps: int

    def of_hyperparams(self, updates: int = 1) -> optax.GradientTransformation:
        """Optimizer of λ̂, for so many updates in a round."""
        return optax.adam(optax.cosine_decay_schedule(self.hyper_rate, updates * self.rounds))

    def of_hypernet(self) -> optax.GradientTransformation:
        """Optimizer of φ."""
        updates = self.rounds * self.inner_steps
        return optax.adam(optax.cosine_decay_schedule(self.hypernet_rate, updates))


class Method(NamedTuple):
    """A row of the table.

    Attributes:
      build: `build(world, pace, config) -> HyperOptimizer`.
      answers: what it takes for the weights that answer λ: MINIMUM, TRAINING or NASH.
      rates: whether a hypernet is trained, so that there are step sizes of it to choose.
    """

    build: Callable[[World, Pace, Any], shn.HyperOptimizer]
    answers: str = MINIMUM
    rates: bool = False

    @property
    def restarts(self) -> bool:
        """Whether each round trains from w₀ to the end."""
        return self.answers == TRAINING


def _trained(build: Callable[..., shn.HyperOptimizer], updates: int = 1, **options: Any) -> Any:
    """A method of an optimizer of the weights and one of λ."""

    def built(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
        return build(
            world.problem,
            optimizer=world.optimizer,
            hyper_optimizer=pace.of_hyperparams(updates),
            **options,
        )

    return built


def _hyper_trained(build: Callable[..., shn.HyperOptimizer], hypernet: Any, options: Any) -> Any:
    """A method whose hypernet is trained; `options(world, pace, config)` are its others."""

    def built(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
        return build(
            world.problem,
            hypernet,
            hypernet_optimizer=pace.of_hypernet(),
            hyper_optimizer=pace.of_hyperparams(),
            **options(world, pace, config),
        )

    return Method(built, rates=True)


def _nearby(world: World, pace: Pace, config: Any) -> dict[str, Any]:
    return {"sampler": shn.samplers.local_gaussian(config.sampling_scale)}


def _everywhere(world: World, pace: Pace, config: Any) -> dict[str, Any]:
    return {
        "sampler": shn.samplers.prior(world.problem.space),
        "hypernet_rounds": max(1, round(config.hypernet_share * pace.rounds)),
    }


def _exploring(world: World, pace: Pace, config: Any) -> dict[str, Any]:
    return _nearby(world, pace, config) | {
        "candidates": shn.samplers.prior(world.problem.space),
        "examples": config.examples,
    }


def _through_steps(world: World, pace: Pace, config: Any) -> dict[str, Any]:
    return _nearby(world, pace, config) | {
        "optimizer": world.optimizer,
        "unrolled_steps": pace.inner_steps,
    }


def _nothing(world: World, pace: Pace, config: Any) -> dict[str, Any]:
    return {}


def _centered_kronecker(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
    jacobian = jacobians.kronecker(refresh_every=1, iterations=config.products)
    return _trained(shn.centered_response, jacobian=jacobian)(world, pace, config)


def _centered_linearized(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
    hypernet = hypernets.linear(init_scale=SCALE)
    jacobian = jacobians.linearized(hypernet, optimizer=pace.of_hypernet())
    return _trained(shn.centered_response, jacobian=jacobian)(world, pace, config)


def _self_tuned(*, linearized: bool) -> Any:
    def built(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
        return _trained(
            shn.self_tuning,
            response_optimizer=pace.of_hypernet(),
            linearized=linearized,
            scale=config.sampling_scale,
            entropy_weight=0.0,
        )(world, pace, config)

    return built


def _implicit(solver: Callable[[World, Any], Any]) -> Method:
    def built(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
        return _trained(shn.implicit, solver=solver(world, config))(world, pace, config)

    return Method(built)


def _truncated(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
    return _trained(shn.truncated, backward_steps=pace.inner_steps)(world, pace, config)


def _real_time(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
    return _trained(shn.real_time, updates=pace.inner_steps)(world, pace, config)


def _hoag(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
    optimizer: Any = world.optimizer  # it may be one that hoag refuses
    return shn.hoag(
        world.problem,
        optimizer=optimizer,
        learning_rate=pace.hyper_rate,
        solver_steps=config.products,
    )


def _saba(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
    train, valid = world.blocks
    return _trained(shn.saba, train_blocks=train, valid_blocks=valid)(world, pace, config)


def _f2sa(*, symmetric: bool) -> Any:
    def built(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
        return _trained(shn.f2sa, multiplier=config.multiplier, symmetric=symmetric)(
            world, pace, config
        )

    return built


def _reversible(world: World, pace: Pace, config: Any) -> shn.HyperOptimizer:
    return shn.reversible(
        world.problem,
        learning_rate=world.step_size,
        momentum=MOMENTUM,
        hyper_optimizer=pace.of_hyperparams(),
    )


def weights(world: World) -> int:
    """Number of weights."""
    return sum(leaf.size for leaf in jax.tree.leaves(param_shapes(world.problem)))


METHODS: dict[str, Method] = {
    "global_response": _hyper_trained(shn.global_response, hypernets.mlp((20,)), _everywhere),
    "local_response": _hyper_trained(
        shn.local_response, hypernets.linear(init_scale=SCALE), _nearby
    ),
    "simultaneous": _hyper_trained(shn.simultaneous, hypernets.linear(init_scale=SCALE), _nothing),
    "simultaneous, no response": _hyper_trained(shn.simultaneous, UNANSWERED, _nothing)._replace(
        answers=NASH
    ),
    "exploring_response": _hyper_trained(
        shn.exploring_response, hypernets.bayesian(hypernets.mlp((20,))), _exploring
    ),
    "unrolled_response": _hyper_trained(
        shn.unrolled_response, hypernets.linear(init_scale=SCALE), _through_steps
    ),
    "centered_response, linearized": Method(_centered_linearized, rates=True),
    "centered_response, kronecker": Method(_centered_kronecker),
    "self_tuning": Method(_self_tuned(linearized=True), rates=True),
    "self_tuning, not linearized": Method(_self_tuned(linearized=False), rates=True),
    "implicit, conjugate_gradient": _implicit(
        lambda world, config: linear_solvers.conjugate_gradient(config.products)
    ),
    "implicit, neumann": _implicit(
        lambda world, config: linear_solvers.neumann(config.products, world.step_size)
    ),
    "implicit, nystrom": _implicit(
        lambda world, config: linear_solvers.nystrom(
            min(config.products, weights(world)), damping=config.damping
        )
    ),
    "implicit, identity": _implicit(lambda world, config: linear_solvers.identity()),
    "hoag": Method(_hoag),
    "soba": Method(_trained(shn.soba)),
    "saba": Method(_saba),
    "f2sa": Method(_f2sa(symmetric=False)),
    "f2sa, symmetric": Method(_f2sa(symmetric=True)),
    "truncated": Method(_truncated),
    "real_time": Method(_real_time),
    "unrolled": Method(_trained(shn.unrolled), TRAINING),
    "forward": Method(_trained(shn.forward), TRAINING),
    "reversible": Method(_reversible, TRAINING),
    "drmad": Method(_trained(shn.drmad), TRAINING),
    "back_optimization": Method(_trained(shn.back_optimization), TRAINING),
}


class Searching(NamedTuple):
    """A row of the table whose method is a search.

    Attributes:
      build: `build(numbers, steps, budget) -> Search`, for λ of so many numbers, trials of so many
        steps, and a budget of gradient evaluations.
      costly: whether its own cost grows with the trials so fast that their number is limited.
    """

    build: Callable[[int, int, int], search.Search]
    costly: bool = False


def _grid(numbers: int, steps: int, budget: int) -> search.Search:
    points = int((budget / steps) ** (1 / numbers) + 1e-9)
    return search.grid_search(points=points, steps=steps)


SEARCHES: dict[str, Searching] = {
    "grid_search": Searching(_grid),
    "random_search": Searching(lambda numbers, steps, budget: search.random_search(steps=steps)),
    "bayesian": Searching(
        lambda numbers, steps, budget: search.bayesian(steps=steps, population=10), costly=True
    ),
}
