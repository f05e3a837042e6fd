"""Predicted losses and weights at other hyperparameters, against closed forms and by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hypernets, response
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data, Examples

rng = np.random.default_rng(0)
INPUTS = rng.normal(size=(60, 3)).astype(np.float32)
TARGETS = INPUTS @ np.float32([[2.0], [-1.0], [0.5]]) + rng.normal(size=(60, 1)).astype(np.float32)
DATA = Data(*(Examples(INPUTS[at::3], TARGETS[at::3]) for at in range(3)))
PROBLEM = shn.supervised(
    nn.Dense(1, use_bias=False),
    INPUTS[:1],
    shn.losses.mean_squared_error,
    shn.penalties.weight_decay,
    space=hp.log(),
)
BOTH = {"optimizer": optax.sgd(0.1), "hyper_optimizer": optax.adam(0.01)}


def exact(decay):
    """The best response of mean squared error, (XᵀX/m + λI)⁻¹ Xᵀy/m."""
    inputs, targets = (np.asarray(leaf, np.float64) for leaf in DATA.train)
    gram = inputs.T @ inputs / len(inputs)
    return np.linalg.solve(gram + decay * np.eye(3), inputs.T @ targets / len(inputs))


@pytest.fixture(scope="module")
def centered():
    method = shn.centered_response(PROBLEM, shn.jacobians.kronecker(damping=0.0), **BOTH)
    return method, shn.fit(PROBLEM, method, DATA, 0.3, steps=30, inner_steps=10)


@pytest.fixture(scope="module")
def learned():
    method = shn.global_response(
        PROBLEM,
        hypernets.mlp((8,)),
        hypernet_optimizer=optax.adam(0.01),
        hyper_optimizer=optax.adam(0.01),
        sampler=shn.samplers.prior(hp.log(prior=(0.01, 1.0))),
        hypernet_rounds=20,
    )
    return method, shn.fit(PROBLEM, method, DATA, 0.3, steps=30, inner_steps=10)


def test_a_slope_leads_along_the_exact_response(centered):
    """Nearby it is that of the closed form, which bends: the error is of second order."""
    method, result = centered
    decay = float(result.hyperparams)
    np.testing.assert_allclose(result.params["kernel"], exact(decay), atol=0.01)
    slope = (exact(decay * np.exp(1e-4)) - exact(decay * np.exp(-1e-4))) / 2e-4
    made = response.weights(method, result, DATA, decay * np.exp(0.1))
    moved = (made["kernel"] - result.params["kernel"]) / 0.1
    np.testing.assert_allclose(moved, slope, rtol=0.02)


@pytest.mark.parametrize("run", ["centered", "learned"])
def test_where_the_run_ended_its_own_weights_are_predicted(run, request):
    method, result = request.getfixturevalue(run)
    made = response.weights(method, result, DATA, result.hyperparams)
    np.testing.assert_allclose(made["kernel"], result.params["kernel"], rtol=1e-5)


def test_losses_along_a_curve_are_those_of_its_weights(learned):
    method, result = learned
    grid = jnp.array([0.01, 0.1, 1.0])
    found = response.curve(method, result, DATA, grid)
    for i, decay in enumerate(grid):
        kernel = response.weights(method, result, DATA, decay)["kernel"]
        for name, split in DATA._asdict().items():
            expected = float(np.mean((split.inputs @ kernel - split.targets) ** 2))
            assert getattr(found.losses, name)[i] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(found.axes[""], grid)
    with pytest.raises(ValueError, match="with one axis in front"):
        response.curve(method, result, DATA, 0.1)


def test_what_if_one_layer_had_another_dropout():
    """Delta-STN responds along a line, on which λ is the logit of a rate."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(4)(x)))
            return nn.Dense(1)(x)

    problem = shn.supervised(
        Model(),
        INPUTS[:1],
        shn.losses.mean_squared_error,
        regularizers=[shn.regularizers.dropout(0.2), shn.regularizers.weight_decay(1e-3)],
        train_kwargs={"train": True},
    )
    method = shn.self_tuning(problem, optimizer=optax.adam(0.03), hyper_optimizer=optax.adam(0.03))
    result = shn.fit(problem, method, DATA, steps=15, inner_steps=5)
    end = float(result.hyperparams["dropout"]["Dropout_0"])
    path, other = "dropout.Dropout_0", "weight_decay.Dense_0"
    decays = [1e-4, float(result.hyperparams["weight_decay"]["Dense_0"])]
    found = response.slice(method, result, DATA, {other: decays, path: [0.1, end, 0.6]})
    assert found.losses.valid.shape == (2, 3)
    assert found.losses.valid[1, 1] == pytest.approx(result.history.valid_loss[-1], rel=1e-5)
    assert len(np.unique(found.losses.valid)) == 6

    spec = problem.space["dropout"]
    unconstrained = float(jax.tree.leaves(hp.encode(spec, result.hyperparams["dropout"]))[0])

    def moved(by):
        rates = hp.decode(spec, {"Dropout_0": jnp.float32(unconstrained + by)})
        at = result.hyperparams | {"dropout": rates}
        made = response.weights(method, result, DATA, at)
        return jax.tree.map(jnp.subtract, made, result.params)

    jax.tree.map(
        lambda once, twice: np.testing.assert_allclose(2 * once, twice, rtol=1e-2, atol=1e-5),
        moved(0.5),
        moved(1.0),
    )
    with pytest.raises(ValueError, match=r"along one or two of \['dropout.Dropout_0'"):
        response.slice(method, result, DATA, {"dropout": [0.1]})


def test_what_has_no_response_to_look_at(learned):
    method, result = learned
    with pytest.raises(ValueError, match="with its state"):
        response.curve(method, result._replace(state=None), DATA, jnp.ones(2))
    alone = shn.implicit(PROBLEM, solver=shn.linear_solvers.identity(), **BOTH)
    with pytest.raises(ValueError, match="needs a method with a model of the response"):
        response.weights(alone, result, DATA, 0.1)
    with pytest.raises(ValueError, match="not strictly inside the range"):
        response.weights(method, result, DATA, -0.1)
