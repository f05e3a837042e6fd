"""A hypernet trained under a broad p(λ) and nothing else: the first phase of Algorithm 2."""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import optax

import shohypernet as shn
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem
from shohypernet.samplers import Sampler


def train_hypernet(
    problem: Problem,
    hypernet: Hypernet,
    sampler: Sampler,
    data: Any,
    start: Any,
    config: Any,
    folder: pathlib.Path,
    *,
    rounds: int,
    seeds: Sequence[int],
    resume: bool,
    batch_size: int | None = None,
    response_loss: Any = shn.hypertraining.shared_minibatch,
) -> shn.Result:
    """A hypernet for each seed, by Adam on a cosine.

    Args:
      problem: the bilevel problem.
      hypernet: its form.
      sampler: p(λ).
      data: three splits.
      start: λ̂ in natural units, which never moves.
      config: hypernet_learning_rate, inner_steps, samples.
      folder: of the run.
      rounds: of inner_steps updates each.
      seeds: one hypernet for each.
      resume: whether to go on with the run in the folder, if there is one.
      batch_size: of training; None takes all examples.
      response_loss: as for `global_response`.
    """
    schedule = optax.cosine_decay_schedule(
        config.hypernet_learning_rate, rounds * config.inner_steps
    )
    method = shn.global_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(schedule),
        hyper_optimizer=optax.identity(),  # every round is of the first phase
        sampler=sampler,
        hypernet_rounds=rounds,
        samples=config.samples,
        response_loss=response_loss,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the hyperparameters stood still")  # as they should
        return shn.fit(
            problem,
            method,
            data,
            start,
            steps=rounds,
            seeds=seeds,
            inner_steps=config.inner_steps,
            train_batch_size=batch_size,
            eval_every=rounds,
            workdir=folder,
            resume="auto" if resume else False,
            config=config.to_dict(),
        )
