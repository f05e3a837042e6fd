"""The library's contender of `implicit_peers`, and the protocol that its peers share."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet.batches import Data
from shohypernet.hypergradients import implicit
from shohypernet.linear_solvers import conjugate_gradient
from shohypernet.problem import Problem


class Subject(NamedTuple):
    """A point to take a hypergradient at: an unconstrained problem, λ, w, and the data."""

    problem: Problem
    hyperparams: Any
    params: Any
    data: Data


class ImplicitContender(NamedTuple):
    """One implementation of the calculation.

    Attributes:
      hypergradient: makes it, waits for the end, and returns it as a flat array in the order of the
        tree of weights.
      compile_seconds: duration of tracing and compilation; None where nothing is compiled.
    """

    hypergradient: Callable[[], np.ndarray]
    compile_seconds: float | None


def contender(subject: Subject, iterations: int) -> ImplicitContender:
    """`implicit.hypergradient`, compiled."""
    solver = conjugate_gradient(iterations)

    def hypergradient(hyperparams: Any, params: Any, data: Data) -> Any:
        key = jax.random.key(0)
        return implicit.hypergradient(
            subject.problem, hyperparams, params, data.train, data.valid, key, solver=solver
        ).gradient

    return compiled(hypergradient, subject)


def compiled(hypergradient: Callable[[Any, Any, Data], Any], subject: Subject) -> ImplicitContender:
    """A contender from a function of λ, w and the data that JAX can compile."""
    arguments = subject.hyperparams, subject.params, subject.data
    began = time.perf_counter()
    call = jax.jit(hypergradient).lower(*arguments).compile()
    seconds = time.perf_counter() - began

    def flat() -> np.ndarray:
        leaves = jax.tree.leaves(jax.block_until_ready(call(*arguments)))
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    return ImplicitContender(flat, seconds)
