"""Implicit differentiation against the closed form, unrolling, and jaxopt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import ridge
from shohypernet.hypergradients import curvature, implicit, unrolled
from shohypernet.inner_loop import TrainState
from shohypernet.linear_solvers import conjugate_gradient, identity, neumann, nystrom
from shohypernet.models import MLP
from shohypernet.problem import unconstrained

WEIGHTS = 8
KEY = jax.random.key(0)


def estimate(small, solver, *, params=None, train=None, **options):
    params = small.best_response(small.hyperparams) if params is None else params
    return jax.jit(
        lambda lam, params: implicit.hypergradient(
            small.problem,
            lam,
            params,
            small.data.train if train is None else train,
            small.data.valid,
            KEY,
            solver=solver,
            **options,
        )
    )(small.hyperparams, params)


@pytest.mark.parametrize("solver", [conjugate_gradient(WEIGHTS), neumann(2_000, 0.3)])
def test_closed_form(float64, small, solver):
    found = estimate(small, solver)
    np.testing.assert_allclose(found.gradient, small.hypergradient(), rtol=1e-8)
    expected = small.problem.valid_loss(
        small.best_response(small.hyperparams), small.hyperparams, small.data.valid
    )
    np.testing.assert_allclose(found.valid_loss, expected, rtol=1e-12)


def by_hand(small, inverse):
    """∂L_valid/∂λ − e^λ w (2/C) C⁻¹ ∂L_valid/∂w, a class at a time."""
    params = small.best_response(small.hyperparams)
    gram, cross, _ = small.exact.valid
    slopes = 2 / 2 * (gram @ params - cross)
    decay = np.exp(small.hyperparams)
    hessians = [small.exact.train.gram + np.diag(column) for column in decay.T]
    adjoint = np.stack([inverse(h) @ g for h, g in zip(hessians, slopes.T, strict=True)], axis=1)
    return 0.1 - decay * params * adjoint


def test_identity_and_damping_by_hand(float64, small):
    found = estimate(small, identity())
    np.testing.assert_allclose(found.gradient, by_hand(small, lambda h: np.eye(4)), rtol=1e-10)
    found = estimate(small, conjugate_gradient(WEIGHTS), damping=0.3)
    damped = by_hand(small, lambda h: np.linalg.inv(h + 0.3 * np.eye(4)))
    np.testing.assert_allclose(found.gradient, damped, rtol=1e-8)
    found = estimate(small, nystrom(WEIGHTS, damping=0.3))
    np.testing.assert_allclose(found.gradient, damped, rtol=1e-8)


def test_dense_hessian_of_a_network(float64, small):
    train, valid = small.data.train, small.data.valid
    natural = shn.supervised(
        MLP(train.targets.shape[1], (3,), 0.5),
        train.inputs[:1],
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    problem = unconstrained(natural)
    # Flax makes float32 in any case.
    initial = jax.tree.map(lambda leaf: leaf.astype(float), problem.init(KEY))
    params, unravel = jax.flatten_util.ravel_pytree(initial)
    hyperparams = jnp.full_like(params, -2.0)

    def train_loss(params, hyperparams):
        return problem.train_loss(unravel(params), unravel(hyperparams), train, KEY)

    def valid_loss(params):
        return problem.valid_loss(unravel(params), unravel(hyperparams), valid)

    @jax.jit
    def derivatives(params, hyperparams):
        mixed = jax.jacfwd(jax.grad(train_loss), 1)(params, hyperparams)
        return jax.hessian(train_loss)(params, hyperparams), mixed, jax.grad(valid_loss)(params)

    hessian, mixed, slopes = derivatives(params, hyperparams)
    # Far from a minimum, where only the damping makes it positive definite.
    assert -1.0 < np.linalg.eigvalsh(hessian)[0] < 0.0
    adjoint = np.linalg.solve(hessian + np.eye(len(params)), slopes)

    @jax.jit
    def hypergradient(params, hyperparams):
        return implicit.hypergradient(
            problem,
            hyperparams,
            params,
            train,
            valid,
            KEY,
            solver=conjugate_gradient(2 * len(slopes)),
            damping=1.0,
        ).gradient

    found = hypergradient(unravel(params), unravel(hyperparams))
    gradient, _ = jax.flatten_util.ravel_pytree(found)
    np.testing.assert_allclose(gradient, -adjoint @ mixed, rtol=1e-8, atol=1e-14)


def test_neumann_is_unrolling_from_the_best_response(float64, small):
    """K terms are K + 1 steps of gradient descent (Lorraine et al. 2019, theorem 1)."""
    terms, rate = 4, 0.2
    optimizer = optax.sgd(rate)
    params = jnp.asarray(small.best_response(small.hyperparams))
    start = TrainState(params, optimizer.init(params))
    arguments = start, small.train(terms + 1), small.data.valid, KEY
    expected = jax.jit(
        lambda lam: unrolled.hypergradient(small.problem, optimizer, lam, *arguments)
    )(small.hyperparams)
    found = estimate(small, neumann(terms, rate))
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-9)


def test_gauss_newton_products(float64, small):
    """On a network, Jᵀ H J from dense Jacobians; on a linear model it is the Hessian itself."""

    def outputs(params, batch, key):
        return jnp.tanh(batch @ params["a"]) @ params["b"]

    def loss(made, batch):
        return jnp.sum(jnp.log1p(jnp.exp(made)))

    def penalty(params, hyperparams):
        return jnp.exp(hyperparams) * jnp.sum(params["b"] ** 4)

    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 2))), "b": jnp.asarray(rng.normal(size=(2, 1)))}
    batch, lam = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(-1.0)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    jacobian = jax.jacobian(lambda flat: outputs(unravel(flat), batch, KEY).ravel())(flat)
    made = outputs(params, batch, KEY)
    bend = np.diag(np.asarray(jax.nn.sigmoid(made) * (1 - jax.nn.sigmoid(made))).ravel())
    stiffness = np.concatenate([np.zeros(6), 12 * np.exp(-1.0) * np.ravel(params["b"]) ** 2])
    expected = jacobian.T @ bend @ jacobian + np.diag(stiffness)
    product = curvature.gauss_newton(outputs, loss, penalty)(params, lam, batch, KEY)
    found = jax.vmap(lambda row: jax.flatten_util.ravel_pytree(product(unravel(row)))[0])(
        jnp.eye(8)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_hessian_and_cross_products(float64, small):
    params, vector = jnp.asarray(small.params), jnp.asarray(np.arange(8.0).reshape(4, 2))
    lam, train = jnp.asarray(small.hyperparams), small.data.train
    decay = np.exp(small.hyperparams)
    product = curvature.hessian(small.problem)(params, lam, train, KEY)
    expected = 2 / 2 * (small.exact.train.gram @ vector + decay * vector)
    np.testing.assert_allclose(product(vector), expected, rtol=1e-12)
    found = curvature.cross_product(small.problem, params, lam, train, KEY, vector)
    np.testing.assert_allclose(found, decay * small.params * vector, rtol=1e-12)


def test_a_minibatch_has_its_own_curvature(float64, small):
    part = jax.tree.map(lambda leaf: leaf[:6], small.data.train)
    gram = ridge.ridge(small.data._replace(train=part)).train.gram
    all_but = small.exact.train.gram

    def inverse(hessian):
        return np.linalg.inv(hessian - all_but + gram)

    found = estimate(small, conjugate_gradient(WEIGHTS), train=part)
    np.testing.assert_allclose(found.gradient, by_hand(small, inverse), rtol=1e-7)
    assert not np.allclose(found.gradient, small.hypergradient(), rtol=1e-2)


def test_jaxopt_agrees(float64, small):
    jaxopt = pytest.importorskip("jaxopt")
    solution = jnp.asarray(small.best_response(small.hyperparams))

    def stationary(params, lam):
        return jax.grad(small.problem.train_loss)(params, lam, small.data.train, KEY)

    slopes = jax.grad(small.problem.valid_loss)(solution, small.hyperparams, small.data.valid)
    (through,) = jaxopt.implicit_diff.root_vjp(
        stationary,
        solution,
        (jnp.asarray(small.hyperparams),),
        slopes,
        jaxopt.linear_solve.solve_cg,
    )
    found = estimate(small, conjugate_gradient(WEIGHTS))
    np.testing.assert_allclose(found.gradient, through + 0.1, rtol=1e-6)


def test_rounds_go_on_and_find_the_optimum(quadratic, key):
    method = shn.implicit(
        quadratic.problem,
        optimizer=optax.sgd(0.3),
        hyper_optimizer=optax.sgd(0.2),
        solver=conjugate_gradient(3),
    )
    state = method.init(key, jnp.array([2.0, -1.0]))
    batches = jnp.broadcast_to(quadratic.train, (5, *quadratic.train.shape))

    def rounds(state, keys):
        return jax.lax.scan(
            lambda state, key: method.step(key, state, batches, quadratic.valid), state, keys
        )

    state, infos = jax.jit(rounds)(state, jax.random.split(key, 400))
    np.testing.assert_allclose(state.hyperparams, quadratic.optimum, atol=1e-9)
    assert infos.hypergradient_norm[-1] < 1e-9


def test_an_optimizer_that_depends_on_lambda_is_refused(small):
    with pytest.raises(TypeError, match=r"only unrolled\(\), truncated\(\).* can tune it"):
        shn.implicit(
            small.problem,
            optimizer=lambda lam: optax.sgd(jnp.exp(lam)),
            hyper_optimizer=optax.sgd(0.1),
            solver=identity(),
        )
