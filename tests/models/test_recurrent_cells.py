"""LSTM cells against Flax's own, and steps computed by hand in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.models import HyperLSTMCell, LayerNormLSTMCell

FEATURES, INPUTS = 4, 3
SMALL, EMBEDDING = 2, 3
GATES = "ifgo"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalized(x, scale, bias):
    deviation = x - x.mean()
    return scale * deviation / np.sqrt(np.mean(deviation**2) + 1e-6) + bias


def lstm_step(memory, gates):
    """c′ and h′ before the memory is normalized, with a forget bias of 1."""
    i, f, g, o = gates
    memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
    return memory, sigmoid(o)


def layer_norm_lstm(params, carry, x):
    memory, hidden = carry
    norm, memory_norm = params["gates_norm"], params["memory_norm"]
    gates = [
        normalized(
            x @ params["inputs"]["kernel"][:, k] + hidden @ params["recurrent"]["kernel"][:, k],
            norm["scale"][k],
            norm["bias"][k],
        )
        for k in range(4)
    ]
    memory, output = lstm_step(memory, gates)
    hidden = output * np.tanh(normalized(memory, memory_norm["scale"], memory_norm["bias"]))
    return memory, hidden


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_params(rng, cell, carry, x):
    shapes = jax.eval_shape(cell.init, jax.random.key(0), carry, x)["params"]
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def test_a_layer_norm_lstm_is_the_equations(rng):
    cell = LayerNormLSTMCell(FEATURES)
    carry = tuple(rng.normal(size=(2, FEATURES)).astype(np.float32))
    x = rng.normal(size=INPUTS).astype(np.float32)
    params = random_params(rng, cell, carry, x)
    made, output = cell.apply({"params": params}, carry, x)
    expected = layer_norm_lstm(params, carry, x)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(output, made[1])


def test_a_hyper_lstm_is_the_equations(rng):
    cell = HyperLSTMCell(FEATURES, SMALL, EMBEDDING)
    carry = (
        tuple(rng.normal(size=(2, FEATURES)).astype(np.float32)),
        tuple(rng.normal(size=(2, SMALL)).astype(np.float32)),
    )
    x = rng.normal(size=INPUTS).astype(np.float32)
    params = random_params(rng, cell, carry, x)
    (own, small), output = cell.apply({"params": params}, carry, x)

    (memory, hidden), signal_carry = carry
    signal = layer_norm_lstm(params["hyper"], signal_carry, np.concatenate([x, hidden]))
    np.testing.assert_allclose(small, signal, rtol=1e-4, atol=1e-5)

    def made(name, k):
        part = params[name]
        z = signal[1] @ part["DenseGeneral_0"]["kernel"][:, k]
        z = z + (part["DenseGeneral_0"]["bias"][k] if name != "biases" else 0)
        return z @ part["D"][k]

    norm, memory_norm = params["gates_norm"], params["memory_norm"]
    gates = []
    for k in range(4):
        by_input = made("input_scales", k) * (x @ params["inputs"]["kernel"][:, k])
        by_hidden = made("recurrent_scales", k) * (hidden @ params["recurrent"]["kernel"][:, k])
        bias = made("biases", k) + params["biases"]["bias"][k]
        gate = by_input + by_hidden + bias
        gates.append(normalized(gate, norm["scale"][k], norm["bias"][k]))
    memory, open_share = lstm_step(memory, gates)
    hidden = open_share * np.tanh(normalized(memory, memory_norm["scale"], memory_norm["bias"]))
    np.testing.assert_allclose(own, (memory, hidden), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(output, own[1])


def flax_lstm(params, scale):
    """Weights of `nn.LSTMCell`: those of a HyperLSTM, scaled, and a forget bias of 1."""
    made = {}
    for k, gate in enumerate(GATES):
        bias = np.full(FEATURES, gate == "f", np.float32)
        made[f"i{gate}"] = {"kernel": scale * params["inputs"]["kernel"][:, k]}
        recurrent = scale * params["recurrent"]["kernel"][:, k]
        made[f"h{gate}"] = {"kernel": recurrent, "bias": bias}
    return {"params": made}


def test_a_hyper_lstm_starts_as_a_plain_lstm_times_a_tenth(rng, key):
    """Over a sequence, whatever the hypernetwork's own state is by then."""
    x = rng.normal(size=(2, 6, INPUTS)).astype(np.float32)
    hyper = nn.RNN(HyperLSTMCell(FEATURES, SMALL, EMBEDDING, layer_norm=False))
    params = hyper.init(key, x)["params"]
    made = hyper.apply({"params": params}, x)
    plain = nn.RNN(nn.LSTMCell(FEATURES))
    cell = params["cell"]
    expected = plain.apply({"params": {"cell": flax_lstm(cell, 0.1)["params"]}}, x)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(made).max() > 0.01
    recurrent = np.asarray(cell["recurrent"]["kernel"])
    for k in range(4):  # orthogonal gate by gate
        np.testing.assert_allclose(recurrent[:, k].T @ recurrent[:, k], np.eye(4), atol=1e-5)


def test_its_hypernetwork_takes_part_after_a_step(rng, key):
    """All is still at the start, where W and D_b are zero, but the gradients of W and D_b."""
    x = rng.normal(size=(1, 3, INPUTS)).astype(np.float32)
    model = nn.RNN(HyperLSTMCell(FEATURES, SMALL, EMBEDDING))
    params = model.init(key, x)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda params: jnp.sum(model.apply(params, x) ** 2))(params)

    first = gradient(params)["params"]["cell"]
    moved = jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, gradient(params))
    second = gradient(moved)["params"]["cell"]
    assert np.any(first["input_scales"]["DenseGeneral_0"]["kernel"] != 0)
    assert np.any(first["biases"]["D"] != 0)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(first["hyper"]))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(second["hyper"]))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(second))
