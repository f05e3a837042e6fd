"""The contender in jaxopt, by its implicit differentiation of roots."""

import functools
from typing import Any

import jax
from jaxopt import implicit_diff, linear_solve

from benchmarks.contenders import implicit
from benchmarks.contenders.implicit import ImplicitContender, Subject
from shohypernet.batches import Data


def contender(subject: Subject, iterations: int) -> ImplicitContender:
    """`custom_root` around a solver that returns w at once."""
    problem = subject.problem
    solve = functools.partial(linear_solve.solve_cg, maxiter=iterations, tol=0.0)

    def hypergradient(hyperparams: Any, params: Any, data: Data) -> Any:
        def slope(params: Any, hyperparams: Any) -> Any:
            key = jax.random.key(0)
            return jax.grad(problem.train_loss)(params, hyperparams, data.train, key)

        @implicit_diff.custom_root(slope, solve=solve)
        def trained(params: Any, hyperparams: Any) -> Any:
            del hyperparams
            return params

        def valid_loss(hyperparams: Any) -> jax.Array:
            return problem.valid_loss(trained(params, hyperparams), hyperparams, data.valid)

        return jax.grad(valid_loss)(hyperparams)

    return implicit.compiled(hypergradient, subject)
