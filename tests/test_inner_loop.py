"""Training against ridge regression, steps by hand, and plain Flax and optax loops."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import Ridge

from shohypernet import Problem, losses, penalties, supervised, train
from shohypernet.hyperparameters import log
from shohypernet.models import MLP

EXAMPLES, FEATURES, OUTPUTS = 20, 3, 2
rng = np.random.default_rng(0)
INPUTS = rng.normal(size=(EXAMPLES, FEATURES))
TARGETS = INPUTS @ rng.normal(size=(FEATURES, OUTPUTS)) + rng.normal(size=(EXAMPLES, OUTPUTS)) + 1
DESCENT = optax.sgd(0.3, momentum=0.8)


@pytest.fixture
def data(float64):
    return jnp.asarray(INPUTS), jnp.asarray(TARGETS)


def linear(penalty):
    """A linear model in float64, with a penalty."""
    model = MLP(OUTPUTS)
    problem = supervised(model, INPUTS[:1], losses.mean_squared_error, penalty, space=log())

    def init(key):
        return jax.tree.map(lambda leaf: leaf.astype(float), problem.init(key))

    return problem._replace(init=init)


def ridge(decay):
    """Our squared errors are summed over EXAMPLES · OUTPUTS, and scikit-learn's over 1."""
    return Ridge(alpha=decay * EXAMPLES * OUTPUTS, tol=0).fit(INPUTS, TARGETS)


def kernel_decay(params, values):
    return penalties.weight_decay(params["Dense_0"]["kernel"], values)


@pytest.mark.parametrize("decay", [0.01, 1.0])
def test_weight_decay_converges_to_ridge_regression(decay, data, key):
    trained = train(linear(kernel_decay), DESCENT, key, decay, data, steps=500)
    oracle = ridge(decay)
    weights = trained.params["Dense_0"]
    np.testing.assert_allclose(weights["kernel"], oracle.coef_.T, rtol=1e-9)
    np.testing.assert_allclose(weights["bias"], oracle.intercept_, rtol=1e-9)

    error = np.mean((oracle.predict(INPUTS) - TARGETS) ** 2)
    minimum = error + decay * np.sum(oracle.coef_**2)
    assert trained.train_losses.shape == (500,)
    np.testing.assert_allclose(trained.train_losses[-1], minimum, rtol=1e-9)


def test_norm_penalty_converges_to_its_ridge(data, key):
    """∇MSE + decay·w/‖w‖ = 0 makes w a ridge solution with a coefficient κ of decay/(2‖w‖)."""
    decay = 0.5
    trained = train(
        linear(penalties.norm_penalty),
        DESCENT,
        key,
        decay,
        data,
        steps=500,
    )
    columns = np.column_stack([INPUTS, np.ones(EXAMPLES)])
    gram = columns.T @ columns / (EXAMPLES * OUTPUTS)
    moment = columns.T @ TARGETS / (EXAMPLES * OUTPUTS)

    def solution(coefficient):
        return np.linalg.solve(gram + coefficient * np.eye(FEATURES + 1), moment)

    low, high = 0.0, 1e3  # coefficient · ‖w‖ grows with the coefficient
    for _ in range(100):
        middle = (low + high) / 2
        too_small = middle * np.linalg.norm(solution(middle)) < decay / 2
        low, high = (middle, high) if too_small else (low, middle)
    weights = trained.params["Dense_0"]
    np.testing.assert_allclose(
        np.vstack([weights["kernel"], weights["bias"]]), solution(low), rtol=1e-8
    )


def test_many_decays_at_once_equal_each_alone(data, key):
    problem = linear(kernel_decay)

    def trained(decay):
        return train(problem, DESCENT, key, decay, data, steps=500)

    decays = np.array([0.01, 0.1, 1.0])
    together = jax.jit(jax.vmap(trained))(decays)
    alone = jax.jit(trained)(0.1)
    jax.tree.map(
        lambda many, one: np.testing.assert_allclose(many[1], one, rtol=1e-9, atol=1e-12),
        together,
        alone,
    )
    oracles = [ridge(decay).coef_.T for decay in decays]
    np.testing.assert_allclose(together.params["Dense_0"]["kernel"], oracles, rtol=1e-9)


@pytest.fixture
def one_weight():
    """L = ½(w − λ·mean(x))² from w = 1."""
    return Problem(
        init=lambda key: jnp.ones(()),
        train_loss=lambda w, scale, batch, key: (w - scale * jnp.mean(batch)) ** 2 / 2,
        valid_loss=lambda w, scale, batch: jnp.zeros(()),
    )


def test_steps_by_hand(one_weight, key):
    """Towards 2·mean(3, 5) = 8 by halves: 1, 4½, 6¼; the losses are those before each step."""
    examples, target_scale = jnp.array([3.0, 5.0]), jnp.array(2.0)
    trained = train(one_weight, optax.sgd(0.5), key, target_scale, examples, steps=2)
    np.testing.assert_allclose(trained.params, 6.25)
    np.testing.assert_allclose(trained.train_losses, [7**2 / 2, 3.5**2 / 2])


def test_minibatches_are_of_the_size_asked_and_differ_from_step_to_step(one_weight, key):
    """Of the examples 0, 1, …, 99 the loss at λ = 1 and learning rate 0 tells each batch's mean."""
    sizes = []

    def train_loss(w, scale, batch, key):
        sizes.append(batch.shape)
        return one_weight.train_loss(w, scale, batch, key)

    problem = one_weight._replace(init=lambda key: jnp.zeros(()), train_loss=train_loss)
    examples = jnp.arange(100.0)
    trained = train(problem, optax.sgd(0.0), key, jnp.ones(()), examples, steps=200, batch_size=4)
    assert set(sizes) == {(4,)}
    means = np.sqrt(2 * np.asarray(trained.train_losses))
    np.testing.assert_allclose(means * 4, np.rint(means * 4), atol=1e-3)
    # A mean of four has mean 49½ and deviation √((100² − 1)/12/4), and one of 200 such 1.02.
    assert abs(means.mean() - 49.5) < 4.5 * 1.02
    assert len(np.unique(means)) > 100


def test_minibatches_fit_what_can_be_fitted_exactly(key, float64):
    """Without noise or decay every minibatch has the same minimum, and SGD gets to it."""
    slope = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]])
    data = jnp.asarray(INPUTS), jnp.asarray(INPUTS @ slope + np.array([[1.0, -1.0]]))
    problem = linear(lambda params, values: jnp.zeros(()))
    trained = train(problem, optax.sgd(0.2), key, jnp.zeros(()), data, steps=2_000, batch_size=5)
    weights = trained.params["Dense_0"]
    np.testing.assert_allclose(weights["kernel"], slope, atol=1e-8)
    np.testing.assert_allclose(weights["bias"], [1.0, -1.0], atol=1e-8)


def test_every_step_has_noise_of_its_own(one_weight, key):
    noisy = one_weight._replace(train_loss=lambda w, scale, batch, key: jax.random.uniform(key))
    trained = train(noisy, optax.sgd(0.0), key, jnp.ones(()), jnp.ones(3), steps=10)
    assert len(np.unique(trained.train_losses)) == 10


def test_no_steps_are_refused(one_weight, key):
    with pytest.raises(ValueError, match="steps to be a whole number >= 1, got 0"):
        train(one_weight, DESCENT, key, jnp.ones(()), jnp.ones(3), steps=0)


# --- model state ----------------------------------------------------------------------------------


class Normed(nn.Module):
    """A small network with batch statistics and dropout."""

    @nn.compact
    def __call__(self, inputs, train):
        hidden = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(5)(inputs))
        dropped = nn.Dropout(0.2, deterministic=not train)(nn.relu(hidden))
        return nn.Dense(OUTPUTS)(dropped)


def test_batch_statistics_are_those_of_a_plain_flax_and_optax_loop(key):
    # Adam would turn rounding into whole steps where a gradient is nearly zero.
    steps, size, decay, optimizer = 12, 6, 0.01, optax.sgd(0.05, momentum=0.9)
    model, examples = Normed(), (jnp.float32(INPUTS), jnp.float32(TARGETS))
    problem = supervised(
        model,
        examples[0][:1],
        losses.mean_squared_error,
        penalties.weight_decay,
        space=log(),
        train_kwargs={"train": True},
        eval_kwargs={"train": False},
    )
    trained = train(problem, optimizer, key, decay, examples, steps=steps, batch_size=size)

    key_init, key_steps = jax.random.split(key)
    variables = model.init(key_init, examples[0][:1], train=False)
    params, stats = variables["params"], variables["batch_stats"]
    opt_state, expected = optimizer.init(params), []

    def loss(params, stats, batch, key):
        outputs, changed = model.apply(
            {"params": params, "batch_stats": stats},
            batch[0],
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        return jnp.mean((outputs - batch[1]) ** 2) + decay * squares, changed["batch_stats"]

    slope = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for step in range(steps):
        key_batch, key_loss = jax.random.split(jax.random.fold_in(key_steps, step))
        rows = jax.random.randint(key_batch, (size,), 0, EXAMPLES)
        batch = tuple(part[rows] for part in examples)
        (value, stats), gradient = slope(params, stats, batch, key_loss)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        expected.append(value)

    def assert_close(found, expected):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    assert_close(trained.train_losses, np.array(expected))
    jax.tree.map(assert_close, trained.model_state, {"batch_stats": stats})
    jax.tree.map(assert_close, trained.params, params)
    outputs = model.apply({"params": params, "batch_stats": stats}, examples[0], train=False)
    assert_close(
        problem.valid_loss(trained.params, decay, examples, trained.model_state),
        jnp.mean((outputs - examples[1]) ** 2),
    )


# --- optimizers that ask for more than the gradient ---------------------------------------------

CURVATURE = np.array([1.0, 0.5, 0.1], np.float32)
START = np.array([1.0, -2.0, 3.0], np.float32)


@pytest.fixture
def bowl():
    """L = ½ Σ c_i w_i², in the weights alone."""
    return Problem(
        init=lambda key: jnp.asarray(START),
        train_loss=lambda w, lam, batch, key: jnp.sum(CURVATURE * w**2) / 2,
        valid_loss=lambda w, lam, batch: jnp.zeros(()),
    )


GREEDY = {
    "plateau": optax.chain(
        optax.sgd(1.5), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.3)
    ),
    "polyak": optax.polyak_sgd(max_learning_rate=1.0),
    "lbfgs": optax.lbfgs(memory_size=3),
    "schedule": optax.sgd(optax.exponential_decay(0.8, 1, 0.5)),
    "momentum": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.3, momentum=0.9)),
}


@pytest.mark.parametrize("optimizer", GREEDY.values(), ids=GREEDY)
def test_optimizers_get_the_value_and_the_function_that_they_ask_for(optimizer, bowl, key):
    trained = train(bowl, optimizer, key, 0.0, jnp.ones(3), steps=6)

    def loss(w):
        return jnp.sum(CURVATURE * w**2) / 2

    w, expected = jnp.asarray(START), []
    opt_state = optimizer.init(w)
    update = jax.jit(optax.with_extra_args_support(optimizer).update, static_argnames="value_fn")
    for _ in range(6):
        value, gradient = jax.value_and_grad(loss)(w)
        expected.append(value)
        updates, opt_state = update(
            gradient, opt_state, w, value=value, grad=gradient, value_fn=loss
        )
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(trained.train_losses, np.array(expected), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(trained.params, w, rtol=1e-4, atol=1e-6)


def test_a_schedule_by_hand(bowl, key):
    trained = train(bowl, GREEDY["schedule"], key, 0.0, jnp.ones(3), steps=3)
    factors = [1 - rate * CURVATURE for rate in (0.8, 0.4, 0.2)]
    np.testing.assert_allclose(trained.params, START * np.prod(factors, axis=0), rtol=1e-6)


@pytest.mark.parametrize("transformation", [False, True])
def test_every_second_of_many_steps_moves_by_the_mean_gradient(transformation, bowl, key):
    optimizer = optax.MultiSteps(optax.sgd(0.5), every_k_schedule=2)
    optimizer = optimizer.gradient_transformation() if transformation else optimizer
    trained = train(bowl, optimizer, key, 0.0, jnp.ones(3), steps=5)
    losses_at = [np.sum(CURVATURE * (START * (1 - CURVATURE / 2) ** k) ** 2) / 2 for k in range(3)]
    expected = np.repeat(losses_at, 2)[:5]
    np.testing.assert_allclose(trained.train_losses, expected, rtol=1e-6)
    np.testing.assert_allclose(trained.params, START * (1 - CURVATURE / 2) ** 2, rtol=1e-6)


def test_a_schedule_gives_each_step_the_hyperparameters_of_its_share(float64, key):
    problem = Problem(
        lambda key: jnp.zeros(()),
        lambda w, target, batch, key: (w - target["at"]) ** 2 / 2,
        lambda w, target, batch: w**2,
    )
    trained = train(
        problem, optax.sgd(0.5), key, lambda share: {"at": share**2}, jnp.ones(2), steps=4
    )
    weight = 0.0
    for share in (0, 0.25, 0.5, 0.75):
        weight += 0.5 * (share**2 - weight)
    np.testing.assert_allclose(trained.params, weight, rtol=1e-12)


def test_a_schedule_of_another_form_is_refused(data, key):
    problem = linear(kernel_decay)._replace(space={"decay": log()})
    with pytest.raises(ValueError, match="doesn't fit hyperparameters"):
        train(problem, DESCENT, key, lambda share: (share,), data, steps=2)
