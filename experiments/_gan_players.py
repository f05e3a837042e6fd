"""Ways of training the GAN on the ring: by turns, unrolled, and with a discriminator that responds.

All that tells a discriminator about λ is the distribution of G_λ(z). So the hypernet reads samples,
of the same latent points for every λ, by their embedding in random Fourier features (Rahimi and
Recht, 2007), which are 0 where the generator is right:

    w_φ(λ) = h_φ(s(λ)),    s(λ) = mean_i √2 cos(Ω G_λ(z_i) + b) − the same mean of the data

h is the hypernet of Self-Tuning Networks. φ is trained at λ with noise, by Algorithm 3, and the
generator descends through w_φ. Some dozens of features respond, in place of λ's many thousands of
weights.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from experiments import _gan_ring as ring
from experiments._duopoly import UNANSWERED
from experiments._gan_games import alternating
from shohypernet import inner_loop
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params

ALTERNATING, UNROLLED, HYPER_TRAINED, UNHEEDED = (
    "alternating",
    "unrolled",
    "hyper-trained",
    "hyper-trained, response unheeded",
)


class Player(NamedTuple):
    """A contender.

    Attributes:
      method: of the problem.
      inner_steps: training batches of a round.
      evaluations: gradients of a round.
    """

    method: HyperOptimizer
    inner_steps: int
    evaluations: int


def players(problem: Problem, config: Any) -> dict[str, Player]:
    """The contenders that the config names, each with its own step size of the discriminator."""

    def optimizers(rate: float, first: str = "hypernet_optimizer") -> dict[str, Any]:
        return {
            first: optax.adam(rate, b1=config.momentum),
            "hyper_optimizer": optax.adam(config.generator_rate, b1=config.momentum),
        }

    def responding(hypernet: Hypernet) -> Player:
        method = shn.local_response(
            problem,
            hypernet,
            sampler=shn.samplers.local_gaussian(config.sampling_noise),
            samples=1,
            **optimizers(config.rates.responding),
        )
        return Player(method, 1, 2)

    steps, rates = config.unrolled_steps, config.rates
    answering = reading_samples(problem, config)
    unheeded = answering._replace(
        apply=lambda phi, lam: answering.apply(phi, jax.lax.stop_gradient(lam))
    )
    plain = Hypernet(lambda key, params, hyperparams: problem.init(key), UNANSWERED.apply)
    by_turns = alternating(problem, plain, **optimizers(rates.alternating))
    ahead = unrolled(problem, steps, **optimizers(rates.unrolled, "optimizer"))
    known = {
        ALTERNATING: Player(by_turns, 1, 2),
        UNROLLED: Player(ahead, steps, 3 * steps + 2),
        HYPER_TRAINED: responding(answering),
        UNHEEDED: responding(unheeded),
    }
    return {name: known[name] for name in config.contenders}


def reading_samples(problem: Problem, config: Any) -> Hypernet:
    """The hypernet that reads s(λ); it starts from the discriminator's own initial weights."""
    structured = shn.hypernets.structured(init_scale=shn.hypernets.PAPER_INIT_SCALE)
    keys = jax.random.split(jax.random.key(config.hypernet_seed), 4)
    latents = jax.random.normal(keys[0], (config.read_samples, config.latent))
    frequencies = jax.random.normal(keys[1], (2, config.features)) / config.feature_width
    phases = jax.random.uniform(keys[2], (1, config.features), maxval=2 * jnp.pi)

    def embedding(points: jax.Array) -> jax.Array:
        return jnp.sqrt(2.0) * jnp.mean(jnp.cos(points @ frequencies + phases), axis=0)

    target = embedding(ring.examples(keys[3], 10_000, config.deviation))

    def features(hyperparams: Hyperparams) -> jax.Array:
        return embedding(ring.generated(hyperparams, latents)) - target

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> Params:
        drawn: Any = structured.init(key, params, features(hyperparams))
        return drawn._replace(center=problem.init(key))

    def apply(hypernet_params: Params, hyperparams: Hyperparams) -> Params:
        return structured.apply(hypernet_params, features(hyperparams))

    return Hypernet(init, apply)


def unrolled(
    problem: Problem,
    steps: int,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Metz et al.: the generator sees some steps of the discriminator ahead, which takes only one.

    It is `truncated`, whose discriminator is put back behind its first step.
    """
    ahead = shn.truncated(
        problem,
        optimizer=optimizer,
        hyper_optimizer=hyper_optimizer,
        backward_steps=steps,
        segment=steps,
    )

    def step(key: Key, state: Any, train_batches: Batch, valid_batch: Batch) -> tuple[Any, Info]:
        key_ahead, key_step = jax.random.split(key)
        moved, info = ahead.step(key_ahead, state, train_batches, valid_batch)
        first = jax.tree.map(lambda leaf: leaf[0], train_batches)
        inner, _ = inner_loop.train_step(
            problem, optimizer, state.inner, state.hyperparams, first, key_step
        )
        evaluations = info.gradient_evaluations + 1
        return moved._replace(inner=inner), info._replace(gradient_evaluations=evaluations)

    return ahead._replace(step=step)
