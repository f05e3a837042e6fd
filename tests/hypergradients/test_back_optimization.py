"""Sweeping back over kept iterates, against reverse mode; L-BFGS against finite differences too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet.hypergradients import back_optimization, unrolled
from shohypernet.hypergradients.back_optimization import heavy_ball, l_bfgs

SOLVERS = {
    "heavy ball": heavy_ball(0.3, 0.5),
    "L-BFGS": l_bfgs(0.5, memory=3),
    "Adam": optax.adam(0.1),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_equals_reverse_mode(float64, small, name, key):
    solver = SOLVERS[name]
    arguments = small.start(solver), small.train(6), small.data.valid, key
    estimates = [
        jax.jit(lambda lam, f=f: f.hypergradient(small.problem, solver, lam, *arguments))(
            jnp.asarray(small.hyperparams)
        )
        for f in (back_optimization, unrolled)
    ]
    swept, pulled = (made._replace(gradient_evaluations=0) for made in estimates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), swept, pulled)


def test_slope_through_l_bfgs(float64, small, slope, key):
    solver = SOLVERS["L-BFGS"]
    arguments = small.start(solver), small.train(6), small.data.valid, key

    @jax.jit
    def estimate(lam):
        return back_optimization.hypergradient(small.problem, solver, lam, *arguments)

    found = estimate(small.hyperparams)
    expected = slope(lambda lam: estimate(lam).valid_loss, small.hyperparams)
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-6, atol=1e-9)


def test_l_bfgs_solves_a_quadratic_as_its_inverse_hessian_does(float64):
    """With memory for all dimensions, and exact line searches, it ends after as many steps."""
    matrix = np.array([[1.5, 0.25, 0.0], [0.25, 1.0, -0.5], [0.0, -0.5, 2.0]])
    solver = l_bfgs(1.0, memory=3)
    w = jnp.array([1.0, -2.0, 0.5])
    state = solver.init(w)
    for _ in range(3):
        change, state = solver.update(matrix @ w, state, w)
        w = w - change * (change @ matrix @ w) / (change @ matrix @ change)
    np.testing.assert_allclose(w, 0, atol=1e-12)


def test_l_bfgs_is_optaxs_but_for_the_first_step(float64):
    def gradient(w):
        return jax.grad(lambda w: jnp.sum(jnp.cosh(w) + 0.3 * jnp.roll(w, 1) * w**2))(w)

    def path(solver, steps=6):
        def step(carry, _):
            w, state = carry
            change, state = solver.update(gradient(w), state, w)
            w = optax.apply_updates(w, change)
            return (w, state), w

        w = jnp.array([0.2, -0.1, 0.15])  # so near that optax doesn't cut the first step
        return jax.lax.scan(step, (w, solver.init(w)), length=steps)[1]

    peer = optax.chain(optax.scale_by_lbfgs(2), optax.scale_by_learning_rate(0.5))
    np.testing.assert_allclose(path(l_bfgs(0.5, memory=2)), path(peer), rtol=1e-10)


def test_heavy_ball_by_hand(small):
    """On ½w², w_t = w_{t−1} − α w_{t−1} + β (w_{t−1} − w_{t−2})."""
    solver = heavy_ball(0.1, 0.8)
    w, before, state = jnp.ones(()), 1.0, solver.init(jnp.ones(()))
    for _ in range(4):
        expected = float(w) - 0.1 * float(w) + 0.8 * (float(w) - before)
        change, state = solver.update(w, state)
        before, w = float(w), w + change
        assert w == pytest.approx(expected)
