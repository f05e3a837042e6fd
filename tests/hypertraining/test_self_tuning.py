"""Self-tuning networks, against weights made explicitly and closed forms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import shohypernet as shn
from shohypernet import regularizers
from shohypernet._internal.layers import layers_of
from shohypernet.batches import Data
from shohypernet.hypertraining import _perturbed_losses as perturbed
from shohypernet.hypertraining import _structured_response as structured
from shohypernet.hypertraining._perturbed_losses import Distribution, Network
from shohypernet.problem import unconstrained

INPUTS = jax.random.normal(jax.random.key(7), (6, 4, 3))


class Recurrent(nn.Module):
    """Words to a class, by an embedding and an LSTM."""

    @nn.compact
    def __call__(self, inputs):
        words = nn.Embed(5, 4)(jnp.argmax(inputs, -1))
        return nn.Dense(2)(nn.RNN(nn.LSTMCell(3))(words)[:, -1])


class Normalized(nn.Module):
    """A convolution with batch normalization."""

    @nn.compact
    def __call__(self, inputs, train=True):
        hidden = nn.BatchNorm(use_running_average=not train)(nn.Conv(3, (2,))(inputs))
        return nn.Dense(2)(nn.relu(hidden).reshape(len(inputs), -1))


class Flat(nn.Module):
    """Dense layers on flat inputs."""

    @nn.compact
    def __call__(self, inputs):
        hidden = nn.tanh(nn.Dense(5, name="hidden")(inputs.reshape(len(inputs), -1)))
        return nn.Dense(2, name="out")(hidden)


MODELS = {
    "one dense layer": nn.Dense(2),
    "dense": Flat(),
    "convolution": nn.Sequential([nn.Conv(3, (2,)), nn.relu, lambda x: x.mean(1), nn.Dense(2)]),
    "several heads": nn.Sequential(
        [nn.DenseGeneral((2, 1, 3)), nn.tanh, nn.DenseGeneral(2, axis=(-3, -2, -1))]
    ),
    "recurrent": Recurrent(),
}


def penalized(params, decay):
    return shn.penalties.weight_decay(params, decay)


def squares(outputs, targets):
    return jnp.mean(outputs**2) + 0 * jnp.sum(targets)


def problem_of(model, **kwargs):
    return shn.supervised(
        model, INPUTS[:1], squares, penalized, space=shn.hyperparameters.log(), **kwargs
    )


def network_of(problem, linearized, examples_per_draw=1):
    inner = unconstrained(problem)
    return Network(inner, layers_of(inner), linearized, examples_per_draw)


def batch_of(count):
    return INPUTS[:count], jnp.zeros(count)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_layers_respond_as_if_their_weights_were_made(model, key):
    problem = problem_of(model)
    params, layers = problem.init(key), layers_of(problem)
    assert {i for layer in layers for i in (layer.kernel, layer.bias)} - {None} == set(
        range(len(jax.tree.leaves(params)))
    )
    responses = structured.init(jax.random.key(1), layers, params, 2, 1.0)
    moved = jnp.array([0.3, -0.7])
    with structured.responding(layers, responses, moved):
        found = model.apply({"params": params}, INPUTS)
    made = structured.weights_at(layers, responses, params, moved)
    expected = model.apply({"params": made}, INPUTS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(expected) - model.apply({"params": params}, INPUTS)).max() > 1e-2


@pytest.mark.parametrize(
    ("name", "linearized", "examples_per_draw"),
    [("dense", True, 1), ("dense", False, 3), ("recurrent", True, 3)],
)
def test_the_training_loss_is_that_of_an_example_at_a_time_with_weights_of_its_own(
    name, linearized, examples_per_draw, key
):
    problem = problem_of(MODELS[name])
    network = network_of(problem, linearized, examples_per_draw)
    params = problem.init(key)
    distribution = Distribution(jnp.array([-1.0]), jnp.array([0.2]))
    responses = structured.init(jax.random.key(1), network.layers, params, 1, 1.0)
    steps = perturbed._steps(distribution, jax.random.split(key, 3)[0], 6 // examples_per_draw)

    def explicit(params, responses):
        total = 0.0
        for i, step in enumerate(steps):
            rows = slice(i * examples_per_draw, (i + 1) * examples_per_draw)
            h = step if linearized else -1.0 + step

            def outputs(amount, h=h, rows=rows):
                made = structured.weights_at(network.layers, responses, params, amount * h)
                return MODELS[name].apply({"params": made}, INPUTS[rows])

            if linearized:
                at, slope = jax.jvp(outputs, (0.0,), (1.0,))
                outputs_b = at + slope
            else:
                outputs_b = outputs(1.0)
            total = total + squares(outputs_b, jnp.zeros(1)) / len(steps)
        penalty = 0.0
        for step in (steps[0], -steps[0]):
            h = step if linearized else -1.0 + step
            made = structured.weights_at(network.layers, responses, params, h)
            penalty = penalty + penalized(made, jnp.exp(-1.0 + step[0])) / 2
        return total + penalty

    def found(params, responses):
        return perturbed.train_loss(network, distribution, params, responses, (), batch_of(6), key)

    expected = jax.jit(jax.grad(explicit, (0, 1)))(params, responses)
    gradients = jax.jit(jax.grad(found, (0, 1)))(params, responses)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradients, expected
    )


def test_the_validation_loss_is_that_of_weights_made_for_each_example(key):
    problem = problem_of(MODELS["dense"])
    network = network_of(problem, linearized=True)
    params = problem.init(key)
    responses = structured.init(jax.random.key(1), network.layers, params, 1, 1.0)

    def explicit(center, scale):
        at = Distribution(center, scale)
        total = 0.0
        for i, step in enumerate(perturbed._steps(at, key, 6)):
            h = center + step - jax.lax.stop_gradient(center)
            made = structured.weights_at(network.layers, responses, params, h)
            total += problem.valid_loss(
                made, 0.0, jax.tree.map(lambda a, i=i: a[i : i + 1], batch_of(6))
            )
        entropy = 0.5 * jnp.log(2 * jnp.pi * jnp.e * jax.nn.softplus(scale[0]) ** 2)
        return total / 6 - 0.1 * entropy

    def found(center, scale):
        at = params, responses, (), batch_of(6), key
        return perturbed.valid_loss(network, Distribution(center, scale), *at, 0.1)[0]

    at = jnp.array([-1.0]), jnp.array([0.2])
    expected, slopes = jax.jit(jax.value_and_grad(explicit, (0, 1)))(*at)
    value, gradients = jax.jit(jax.value_and_grad(found, (0, 1)))(*at)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients, slopes, rtol=1e-4, atol=1e-6)


def test_batch_normalization_takes_its_statistics_over_all_draws(key):
    problem = problem_of(Normalized(), eval_kwargs={"train": False})
    network = network_of(problem, linearized=True)
    params, state = problem.init(key)
    responses = structured.init(jax.random.key(1), network.layers, params, 1, 1.0)
    narrow = Distribution(jnp.array([-1.0]), jnp.array([-30.0]))

    @jax.jit
    def loss(params):
        return perturbed.train_loss(network, narrow, params, responses, state, batch_of(6), key)

    found = loss(params)
    expected, _ = problem.train_loss(params, jnp.exp(-1.0), batch_of(6), key, state)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def regression(count=200, features=5):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, features))
    targets = inputs @ rng.normal(size=features) + 0.5 * rng.normal(size=count)
    return inputs.astype(np.float32), targets.astype(np.float32)[:, None]


def half_squares(outputs, targets):
    return jnp.mean((outputs - targets) ** 2) / 2


@pytest.mark.parametrize("linearized", [True, False])
def test_the_response_of_ridge_regression_to_its_decay_is_the_closed_form(linearized):
    """dw/dλ = −(H + λI)⁻¹ w, in log λ λ times that."""
    inputs, targets = regression()
    problem = shn.supervised(
        nn.Dense(1, use_bias=False),
        inputs[:1],
        half_squares,
        lambda params, decay: decay / 2 * jnp.sum(params["kernel"] ** 2),
        space=shn.hyperparameters.log(),
    )
    decay, steps = 0.5, 3_000
    method = shn.self_tuning(
        problem,
        optimizer=optax.sgd(optax.cosine_decay_schedule(0.1, steps)),
        hyper_optimizer=optax.sgd(0.0),
        linearized=linearized,
        scale=0.3,
        entropy_weight=0.0,
    )
    batches = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (steps, *leaf.shape)), (inputs, targets)
    )
    state = method.init(jax.random.key(0), jnp.log(decay))
    state, _ = jax.jit(method.step)(jax.random.key(1), state, batches, (inputs, targets))

    hessian = inputs.T @ inputs / len(inputs) + decay * np.eye(inputs.shape[1])
    weights = np.linalg.solve(hessian, inputs.T @ targets / len(inputs))
    (response,) = state.responses
    found = response.weights * response.to_weights[:1]
    expected = -decay * np.linalg.solve(hessian, weights)
    np.testing.assert_allclose(method.weights(state)["kernel"], weights, atol=0.02)
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max() + 0.01)


def test_dropout_of_a_linear_model_s_inputs_ends_at_the_best_rate_in_closed_form():
    """In expectation it is ridge regression with diag(XᵀX) p / (1 − p)."""
    rng = np.random.default_rng(3)
    true = rng.normal(size=20)
    split = []
    for count in (40, 2_000, 10):
        inputs = rng.normal(size=(count, 20))
        split.append((inputs, (inputs @ true + 6 * rng.normal(size=count))[:, None]))
    data = Data(*jax.tree.map(jnp.float32, split))

    def valid_loss(rate):
        (inputs, targets), (inputs_v, targets_v) = split[:2]
        gram = inputs.T @ inputs
        ridge = np.diag(np.diag(gram)) * rate / (1 - rate)
        weights = np.linalg.solve(gram + ridge, inputs.T @ targets)
        return np.mean((inputs_v @ weights - targets_v) ** 2)

    rates = np.linspace(0.01, 0.89, 400)
    best = rates[np.argmin([valid_loss(rate) for rate in rates])]
    assert 0.2 < best < 0.8

    problem = shn.supervised(
        nn.Dense(1, use_bias=False),
        data.train[0][:1],
        half_squares,
        regularizers=[regularizers.input_dropout(0.1)],
    )
    rounds = 2_500
    schedule = optax.cosine_decay_schedule(1.0, rounds)
    method = shn.self_tuning(
        problem,
        optimizer=optax.sgd(optax.cosine_decay_schedule(0.05, 4 * rounds)),
        hyper_optimizer=optax.chain(
            optax.scale_by_adam(), optax.scale_by_schedule(lambda t: -0.02 * schedule(t))
        ),
        scale=0.5,
        entropy_weight=0.0,
        warmup_rounds=200,
    )
    result = shn.fit(problem, method, data, steps=rounds, inner_steps=4, eval_every=rounds)
    np.testing.assert_allclose(result.hyperparams["input_dropout"], best, atol=0.02)


def test_during_the_warm_up_hyperparameters_wait_and_weights_do_not(key):
    problem = problem_of(MODELS["dense"])
    optimizer = optax.sgd(0.1)
    method = shn.self_tuning(
        problem, optimizer=optimizer, hyper_optimizer=optax.adam(0.1), warmup_rounds=2
    )
    state = method.init(key, jnp.array(-1.0))
    # The response is zero at first and would not move λ̂ whatever the round.
    state = state._replace(responses=structured.init(key, layers_of(problem), state.params, 1, 0.1))
    batches = jax.tree.map(lambda leaf: leaf[None], batch_of(6))
    path, step = [state], jax.jit(method.step)
    for i in range(3):
        path.append(step(jax.random.key(i), path[-1], batches, batch_of(6))[0])
    assert [float(each.hyperparams) for each in path[:3]] == [-1.0] * 3
    assert [float(each.scales) for each in path[:3]] == [float(path[0].scales)] * 3
    assert path[3].hyperparams != -1.0
    assert path[3].scales != path[0].scales
    moved = ravel_pytree(path[1].params)[0] != ravel_pytree(path[0].params)[0]
    assert np.any(moved)


def test_entropy_alone_widens_the_distribution_and_without_it_the_scale_is_held(key):
    problem = problem_of(MODELS["dense"])
    batches = jax.tree.map(lambda leaf: leaf[None], batch_of(6))

    def scale_after(entropy_weight):
        method = shn.self_tuning(
            problem,
            optimizer=optax.sgd(0.1),
            response_optimizer=optax.sgd(0.0),  # it stays zero: validation knows no λ
            hyper_optimizer=optax.sgd(0.1),
            entropy_weight=entropy_weight,
        )
        state = method.init(key, jnp.array(-1.0))
        after, _ = method.step(key, state, batches, batch_of(6))
        return float(state.scales), float(after.scales)

    # −τ d log σ / ds = −τ sigmoid(s) / softplus(s), with softplus(s) = 1.
    before, after = scale_after(0.5)
    np.testing.assert_allclose(after, before + 0.1 * 0.5 / (1 + np.exp(-before)), rtol=1e-5)
    before, after = scale_after(0.0)
    assert after == before


def test_a_frozen_layer_does_not_respond(key):
    problem = problem_of(MODELS["dense"])
    frozen = optax.multi_transform(
        {"trained": optax.sgd(0.1), "frozen": optax.set_to_zero()},
        {"hidden": "frozen", "out": "trained"},
    )
    method = shn.self_tuning(
        problem, optimizer=frozen, response_optimizer=optax.sgd(0.1), hyper_optimizer=optax.sgd(0.1)
    )
    state = method.init(key, jnp.array(-1.0))
    assert [each.weights.shape for each in state.responses] == [(5, 2)]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (MODELS["dense"], {"scale": 0.0}, "scale"),
        (MODELS["dense"], {"entropy_weight": -1.0}, "entropy_weight >= 0"),
        (MODELS["dense"], {"examples_per_draw": 0}, "examples_per_draw"),
        (Normalized(), {"linearized": False}, "linearized=True"),
        (nn.LayerNorm(), {}, "no layer that could respond"),
    ],
)
def test_what_it_can_not_do_is_refused(model, options, message):
    problem = problem_of(model)
    optimizer = optax.sgd(0.1)
    with pytest.raises(ValueError, match=message):
        shn.self_tuning(problem, optimizer=optimizer, hyper_optimizer=optimizer, **options)


def test_batches_that_groups_do_not_divide_are_refused(key):
    problem, optimizer = problem_of(MODELS["dense"]), optax.sgd(0.1)
    method = shn.self_tuning(
        problem, optimizer=optimizer, hyper_optimizer=optimizer, examples_per_draw=4
    )
    batches = jax.tree.map(lambda leaf: leaf[None], batch_of(6))
    with pytest.raises(ValueError, match="multiple of 4 examples, got 6"):
        method.step(key, method.init(key, jnp.array(-1.0)), batches, batch_of(6))
