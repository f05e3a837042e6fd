"""Every method in every precision: states keep their dtypes, and losses are those of float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hypernets, jacobians, linear_solvers
from shohypernet import hyperparameters as hp
from shohypernet.problem import param_shapes

SGD = optax.sgd(1e-2)
INNER = {"optimizer": SGD, "hyper_optimizer": SGD}
HYPER = {
    "hypernet_optimizer": SGD,
    "hyper_optimizer": SGD,
    "sampler": shn.samplers.local_gaussian(0.1),
}
METHODS = {
    "global_response": lambda p: shn.global_response(
        p, hypernets.mlp((3,)), hypernet_rounds=1, **HYPER
    ),
    "local_response": lambda p: shn.local_response(p, hypernets.structured(), **HYPER),
    "simultaneous": lambda p: shn.simultaneous(
        p, hypernets.factorized(2), hypernet_optimizer=SGD, hyper_optimizer=SGD
    ),
    "kronecker": lambda p: shn.centered_response(p, jacobians.kronecker(), **INNER),
    "linearized": lambda p: shn.centered_response(
        p, jacobians.linearized(hypernets.linear(), optimizer=SGD), **INNER
    ),
    "self_tuning": lambda p: shn.self_tuning(p, **INNER),
    "self_tuning, not linearized": lambda p: shn.self_tuning(p, linearized=False, **INNER),
    "unrolled": lambda p: shn.unrolled(p, **INNER),
    "truncated": lambda p: shn.truncated(p, backward_steps=2, **INNER),
    "forward": lambda p: shn.forward(p, **INNER),
    "real_time": lambda p: shn.real_time(p, **INNER),
    "reversible": lambda p: shn.reversible(
        p, learning_rate=1e-2, momentum=0.9, hyper_optimizer=SGD
    ),
    "drmad": lambda p: shn.drmad(p, **INNER),
    "back_optimization": lambda p: shn.back_optimization(p, **INNER),
    "implicit": lambda p: shn.implicit(p, solver=linear_solvers.conjugate_gradient(3), **INNER),
    "nystrom": lambda p: shn.implicit(p, solver=linear_solvers.nystrom(3, damping=0.1), **INNER),
    "soba": lambda p: shn.soba(p, **INNER),
    "saba": lambda p: shn.saba(p, train_blocks=4, valid_blocks=2, **INNER),
    "f2sa": lambda p: shn.f2sa(p, multiplier=lambda k: 10.0 + k, **INNER),
    "f2sa, symmetric": lambda p: shn.f2sa(p, multiplier=10.0, symmetric=True, **INNER),
    "hoag": lambda p: shn.hoag(p, optimizer=SGD, learning_rate=1e-2),
}
# Dtypes of weights, data, λ and the layers' arithmetic, and whether 64 bits are on.
PRECISIONS = {
    "single": ("float32", "float32", "float32", None, False),
    "layers in bfloat16": ("float32", "float32", "float32", "bfloat16", False),
    "weights in bfloat16": ("bfloat16", "bfloat16", "float32", None, False),
    "single, with 64 bits on": ("float32", "float32", "float32", None, True),
    "data in double": ("float32", "float64", "float32", None, True),
    "λ in double": ("float32", "float32", "float64", None, True),
    "double": ("float64", "float64", "float64", None, True),
}
# Those that worked in single precision alone before they were held to this.
ONCE_BROKEN = "kronecker", "reversible", "hoag"


def prepared(name, precision):
    weights, data, lam, layers, _ = PRECISIONS[precision]
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(24, 4))
    batch = tuple(jnp.asarray(x, data) for x in (inputs, inputs @ rng.normal(size=(4, 2))))

    def dense(outputs):
        return nn.Dense(outputs, param_dtype=weights, dtype=layers)

    problem = shn.supervised(
        nn.Sequential([dense(3), nn.tanh, dense(2)]),
        batch[0][:1],
        lambda made, targets: jnp.mean((made.astype(float) - targets) ** 2),
        shn.penalties.weight_decay,
        space=hp.log(),
    )
    decays = shn.penalties.decays(param_shapes(problem), 1e-2, "layer")
    start = jax.tree.map(lambda x: jnp.asarray(x, lam), hp.encode(hp.log(), decays))
    batches = jax.tree.map(lambda x: jnp.stack([x] * 3), batch)
    return METHODS[name](problem), start, batches, batch


# tests/test_protocol.py has all of this in single precision.
@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "single"])
@pytest.mark.parametrize("name", METHODS)
def test_a_round_keeps_every_dtype(name, precision, key):
    weights, _, lam, _, double = PRECISIONS[precision]
    with jax.enable_x64(double):
        method, start, batches, batch = prepared(name, precision)
        state = jax.eval_shape(method.init, key, start)
        after, _ = jax.eval_shape(method.step, key, state, batches, batch)
        dtypes = jax.tree.map(lambda leaf: leaf.dtype, state)
        assert jax.tree.map(lambda leaf: leaf.dtype, after) == dtypes
        made = jax.eval_shape(method.weights, after)
        assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype(weights)}
        assert {leaf.dtype for leaf in jax.tree.leaves(after.hyperparams)} == {jnp.dtype(lam)}


@pytest.mark.parametrize("name", ONCE_BROKEN)
def test_losses_and_hypergradients_are_near_those_of_single_precision(name, key):
    found = {}
    for precision in ("single", "layers in bfloat16", "double"):
        with jax.enable_x64(PRECISIONS[precision][-1]):
            method, start, batches, batch = prepared(name, precision)
            _, info = jax.jit(method.step)(key, method.init(key, start), batches, batch)
            found[precision] = float(info.valid_loss), float(info.hypergradient_norm)
    loss, norm = found["single"]
    assert found["layers in bfloat16"][0] == pytest.approx(loss, rel=1e-2)
    # Conjugate gradients stop early where the products are rounded to eight bits.
    assert found["layers in bfloat16"][1] < 2 * norm
    assert np.isfinite(found["double"]).all()
