"""The hypernet of `smash`: weights for any architecture, from its encoding."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import shohypernet as shn
from experiments import _architectures
from experiments._architectures import Architecture, Space
from shohypernet.batches import Data
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem
from shohypernet.types import Params


def build(space: Space, config: Any, *, shuffled: bool) -> Hypernet:
    """A multilayer perceptron from the encoding of an architecture, its own, or a shuffled one."""
    hypernet = shn.hypernets.mlp(tuple(config.hidden), init_scale=config.init_scale)
    if not shuffled:
        return hypernet

    def apply(hypernet_params: Params, architecture: Architecture) -> Params:
        return hypernet.apply(hypernet_params, another(space, architecture))

    return Hypernet(hypernet.init, apply)


def another(space: Space, architecture: Architecture) -> Architecture:
    """A random architecture that is always the same for the same one."""
    flat = ravel_pytree(architecture)[0].astype(jnp.uint32)
    factors = np.random.default_rng(0).integers(2**32, size=flat.shape, dtype=np.uint32)
    return _architectures.draw(space, jax.random.key(jnp.sum(flat * factors, dtype=jnp.uint32)))


def fit(
    problem: Problem,
    hypernet: Hypernet,
    space: Space,
    data: Data,
    start: Architecture,
    config: Any,
    folder: pathlib.Path,
    *,
    resume: bool,
) -> shn.Result:
    """Train hypernets on random architectures, one of each seed: a phase that λ̂ stands still in."""
    steps = config.rounds * config.inner_steps
    schedule = optax.cosine_decay_schedule(config.hypernet_learning_rate, steps)
    method = shn.global_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(schedule),
        hyper_optimizer=optax.sgd(1.0),  # for a second phase, which never comes
        sampler=lambda key, current: _architectures.draw(space, key),
        hypernet_rounds=config.rounds,
        samples=config.samples,
    )
    return shn.fit(
        problem,
        method,
        data,
        start,
        steps=config.rounds,
        seeds=config.seeds,
        inner_steps=config.inner_steps,
        train_batch_size=config.batch_size,
        valid_batch_size=config.batch_size,
        eval_every=config.rounds // config.evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )
