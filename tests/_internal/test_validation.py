"""Numbers that no builder takes, each refused before anything is traced."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hypernets, jacobians, linear_solvers, losses, samplers
from shohypernet import hyperparameters as hp
from shohypernet.hypergradients import back_optimization, hoag


def untouchable(*arguments):
    raise AssertionError("traced before it was refused")


def bound(function, *arguments, **options):
    return functools.partial(function, *arguments, **options)


SGD = optax.sgd(0.1)
PROBLEM = shn.Problem(untouchable, untouchable, untouchable)
HYPERNET = hypernets.Hypernet(untouchable, untouchable)
THROUGH_HYPERNET = {
    "hypernet_optimizer": SGD,
    "hyper_optimizer": SGD,
    "sampler": samplers.gaussian(),
}
THROUGH_TRAINING = {"optimizer": SGD, "hyper_optimizer": SGD}

BUILDERS = {
    "linear": hypernets.linear,
    "mlp": hypernets.mlp,
    "factorized": hypernets.factorized,
    "elementwise": hypernets.elementwise,
    "structured": hypernets.structured,
    "linearized": bound(jacobians.linearized, HYPERNET, optimizer=SGD),
    "kronecker": jacobians.kronecker,
    "global_response": bound(
        shn.global_response, PROBLEM, HYPERNET, hypernet_rounds=1, **THROUGH_HYPERNET
    ),
    "local_response": bound(shn.local_response, PROBLEM, HYPERNET, **THROUGH_HYPERNET),
    "unrolled": bound(shn.unrolled, PROBLEM, **THROUGH_TRAINING),
    "truncated": bound(shn.truncated, PROBLEM, backward_steps=2, **THROUGH_TRAINING),
    "implicit": bound(shn.implicit, PROBLEM, solver=linear_solvers.identity(), **THROUGH_TRAINING),
    "hoag": bound(shn.hoag, PROBLEM, optimizer=SGD, learning_rate=0.1),
    "saba": bound(shn.saba, PROBLEM, train_blocks=2, valid_blocks=2, **THROUGH_TRAINING),
    "f2sa": bound(shn.f2sa, PROBLEM, multiplier=10.0, **THROUGH_TRAINING),
    "exponential": hoag.exponential,
    "polynomial": hoag.polynomial,
    "reversible": bound(
        shn.reversible, PROBLEM, learning_rate=0.1, momentum=0.9, hyper_optimizer=SGD
    ),
    "l_bfgs": bound(back_optimization.l_bfgs, learning_rate=0.1),
    "conjugate_gradient": lambda steps=3, **options: linear_solvers.conjugate_gradient(
        steps, **options
    ),
    "neumann": bound(linear_solvers.neumann, terms=3, step_size=0.1),
    "nystrom": lambda rank=2, damping=0.1: linear_solvers.nystrom(rank, damping=damping),
    "gaussian_nll": bound(losses.gaussian_nll_from_mse, 1.0),
    "train": bound(shn.train, PROBLEM, SGD, None, None, None),
    "sharpness": bound(shn.diagnostics.sharpness, PROBLEM, None, None, None, None),
    "real": hp.real,
    "gaussian": samplers.gaussian,
    "local_gaussian": samplers.local_gaussian,
}
SIZES = {
    "linearized": ["samples"],
    "kronecker": ["refresh_every", "examples", "window", "iterations"],
    "global_response": ["samples"],
    "local_response": ["samples"],
    "unrolled": ["segment"],
    "truncated": ["backward_steps", "segment"],
    "hoag": ["solver_steps"],
    "saba": ["train_blocks", "valid_blocks"],
    "nystrom": ["rank"],
    "l_bfgs": ["memory"],
    "conjugate_gradient": ["steps"],
    "train": ["steps"],
    "sharpness": ["steps"],
}
COUNTS_FROM_ZERO = {"global_response": ["hypernet_rounds"], "neumann": ["terms"]}
ABOVE_ZERO = {
    "hoag": ["learning_rate"],
    "f2sa": ["multiplier"],
    "nystrom": ["damping"],
    "exponential": ["first", "factor"],
    "polynomial": ["first", "power"],
    "reversible": ["learning_rate"],
    "l_bfgs": ["learning_rate"],
    "neumann": ["step_size"],
    "gaussian_nll": ["scale"],
    "real": ["scale"],
}
FROM_ZERO = {
    "linear": ["init_scale"],
    "mlp": ["init_scale"],
    "factorized": ["init_scale"],
    "elementwise": ["init_scale"],
    "structured": ["init_scale"],
    "kronecker": ["damping"],
    "implicit": ["damping"],
    "conjugate_gradient": ["tolerance"],
    "gaussian": ["scale"],
    "local_gaussian": ["scale"],
}
KINDS = [
    (SIZES, "a whole number >= 1", [0, -1, 1.5, True, "2"]),
    (COUNTS_FROM_ZERO, "a whole number >= 0", [-1, 0.5, None]),
    (ABOVE_ZERO, "finite and > 0", [0, -0.1, math.nan, math.inf, np.float32(0)]),
    (FROM_ZERO, "finite and >= 0", [-0.1, math.nan, math.inf]),
]


@pytest.mark.parametrize(
    ("builder", "name", "expected", "values"),
    [
        (builder, name, expected, values)
        for table, expected, values in KINDS
        for builder, names in table.items()
        for name in names
    ],
)
def test_a_number_out_of_range_is_refused_by_its_name(builder, name, expected, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"needs {name} to be {expected}, got "):
            BUILDERS[builder](**{name: value})


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (BUILDERS["mlp"], {"hidden": (4, 2.5)}),
        (BUILDERS["factorized"], {"rank": 0}),
        (BUILDERS["reversible"], {"bits": 31}),
        (hp.integer, {"low": 0, "high": 2**40}),
        (hp.integer, {"low": 0.5, "high": 3.5}),
        (hp.real, {"loc": math.nan}),
        (samplers.gaussian, {"loc": math.inf}),
    ],
)
def test_so_is_what_has_a_range_of_its_own(build, options):
    with pytest.raises(ValueError, match=r"must be|need"):
        build(**options)


def test_what_may_be_traced_is_taken_as_it_is():
    @jax.jit
    def solved(step_size):
        return linear_solvers.neumann(0, step_size)(lambda vector: vector, jnp.ones(2)).value

    np.testing.assert_array_equal(solved(2.0), 2.0)
