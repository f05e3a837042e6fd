"""DrMAD against its recurrence in NumPy, and against reverse mode where the line is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from shohypernet.hypergradients import drmad, unrolled
from shohypernet.inner_loop import TrainState


def estimate(small, optimizer, steps, key, of=drmad):
    arguments = small.start(optimizer), small.train(steps), small.data.valid, key
    return jax.jit(lambda lam: of.hypergradient(small.problem, optimizer, lam, *arguments))(
        jnp.asarray(small.hyperparams)
    )


def test_recurrence_by_hand(float64, small, key):
    """With momentum γ: v̄ ← v̄ − α w̄; λ̄ ← λ̄ + ∂²L/∂λ∂w v̄; w̄ ← w̄ + H v̄; v̄ ← γ v̄."""
    steps, rate, momentum = 6, 0.3, 0.5
    found = estimate(small, optax.sgd(rate, momentum=momentum), steps, key)
    gram, cross, _ = small.exact.train
    decay = np.exp(small.hyperparams)
    w, v = small.params, 0.0
    for _ in range(steps):
        v = momentum * v + (gram @ w - cross + decay * w)
        w = w - rate * v
    np.testing.assert_allclose(found.state.params, w, rtol=1e-10)
    adjoint = small.exact.valid.gram @ w - small.exact.valid.cross
    momenta, gradient = 0.0, 0.1
    for t in reversed(range(steps)):
        line = (1 - t / steps) * small.params + t / steps * w
        momenta = momenta - rate * adjoint
        gradient = gradient + decay * line * momenta
        adjoint = adjoint + gram @ momenta + decay * momenta
        momenta = momentum * momenta
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-10)
    exact = estimate(small, optax.sgd(rate, momentum=momentum), steps, key, of=unrolled)
    assert not np.allclose(found.gradient, exact.gradient, rtol=1e-2)


def test_exact_where_training_runs_along_a_line(float64, key):
    """Under a constant slope the weights move evenly, whatever the curvature of the penalty."""
    problem = shn.Problem(
        init=lambda key: jnp.zeros(2),
        train_loss=lambda w, lam, x, key: jnp.sum(jnp.sin(lam) * w) + 0 * jnp.sum(x),
        valid_loss=lambda w, lam, x: jnp.sum(jnp.cosh(w)) + jnp.sum(lam**2),
    )
    optimizer, lam = optax.sgd(0.2), jnp.array([0.3, -0.7])
    start = TrainState(jnp.ones(2), optimizer.init(jnp.ones(2)))
    arguments = problem, optimizer, lam, start, jnp.zeros((5, 1)), jnp.zeros(1), key
    found, exact = jax.jit(
        lambda: [f.hypergradient(*arguments).gradient for f in (drmad, unrolled)]
    )()
    np.testing.assert_allclose(found, exact, rtol=1e-12)


def test_counts_have_no_line_to_lie_on(float64, small, key):
    """Adam's count of steps is kept; after one step the line is exact, and so is the gradient."""
    found, exact = (estimate(small, optax.adam(0.1), 1, key, of=of) for of in (drmad, unrolled))
    np.testing.assert_allclose(found.gradient, exact.gradient, rtol=1e-9)
    assert np.all(np.isfinite(estimate(small, optax.adam(0.1), 5, key).gradient))
