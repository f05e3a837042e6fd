"""Hyperparameters that no step would move: refused beforehand, or reported at the end."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from walks import RATE, calm, untouchable, walk

import shohypernet as shn
from shohypernet import Problem, hypernets, jacobians, linear_solvers
from shohypernet import hyperparameters as hp
from shohypernet.fitting import fit
from shohypernet.samplers import gaussian, local_gaussian

SGD = optax.sgd(0.1)
ADAM = optax.adam(0.1)  # divides 0 by a number next to 0


def _gradient_method(builder, **options):
    return lambda problem, **kwargs: builder(
        problem, **{"optimizer": SGD, "hyper_optimizer": ADAM} | options | kwargs
    )


METHODS = {
    "forward": _gradient_method(shn.forward),
    "real_time": _gradient_method(shn.real_time),
    "truncated": _gradient_method(shn.truncated, backward_steps=1),
    "implicit": _gradient_method(shn.implicit, solver=linear_solvers.neumann(2, 0.1)),
    "centered_response": lambda problem: shn.centered_response(
        problem, jacobians.kronecker(), optimizer=SGD, hyper_optimizer=ADAM
    ),
    "local_response": lambda problem: shn.local_response(
        problem,
        hypernets.linear(),
        hypernet_optimizer=SGD,
        hyper_optimizer=ADAM,
        sampler=local_gaussian(0.5),
    ),
    "global_response": lambda problem: shn.global_response(
        problem,
        hypernets.mlp((3,)),
        hypernet_optimizer=SGD,
        hyper_optimizer=ADAM,
        sampler=gaussian(),
        hypernet_rounds=2,
    ),
}


def penalized(effect):
    """A dense layer with a penalty of its weights, times some effect of λ, and a decay."""
    layer = nn.Dense(1)
    inputs = np.ones((1, 2), np.float32)

    def penalty(params, values):
        kernel, bias = params["kernel"], params["bias"]
        decay = values["decay"] * jnp.sum(kernel**2)
        return decay + effect(values["other"], kernel) + effect(values["other"], bias)

    return shn.supervised(
        layer,
        inputs,
        lambda outputs, targets: jnp.mean((outputs - targets) ** 2),
        penalty,
        space={"decay": hp.log(), "other": hp.bounded(0.0, 1.0)},
    )


def scalar(effect):
    """The same of a single weight, which is soon compiled."""

    def train_loss(w, values, batch, key):
        return jnp.mean((w - batch) ** 2) + values["decay"] * w**2 + effect(values["other"], w)

    return Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=train_loss,
        valid_loss=lambda w, values, batch: jnp.mean((w - batch) ** 2),
        space={"decay": hp.log(), "other": hp.bounded(0.0, 1.0)},
    )


VALUES = {"decay": 0.1, "other": 0.6}
ROWS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2), np.ones((6, 1), np.float32)
EFFECTS = {
    "smooth": lambda other, weights: other * jnp.sum(weights**2),
    "rounded": lambda other, weights: jnp.round(other) * jnp.sum(weights**2),
    "detached": lambda other, weights: jax.lax.stop_gradient(other) * jnp.sum(weights**2),
    "compared": lambda other, weights: jnp.where(other > 0.5, jnp.sum(weights**2), 0.0),
    # As odds, that a mask is drawn with.
    "odds": lambda other, weights: jnp.sum(
        weights**2 * jax.random.bernoulli(jax.random.key(0), other, weights.shape)
    ),
}


def tune(method, problem, values=VALUES, **kwargs):
    return fit(problem, method, (ROWS, ROWS, ROWS), values, steps=4, inner_steps=2, **kwargs)


@pytest.mark.parametrize("effect", sorted(EFFECTS.keys() - {"smooth"}))
@pytest.mark.parametrize(
    "name", ["truncated", "implicit", "centered_response", "forward", "real_time"]
)
def test_a_hyperparameter_without_derivative_is_refused_before_compiling(
    name, effect, tmp_path, monkeypatch
):
    problem = penalized(EFFECTS[effect])
    monkeypatch.setattr(jax.stages.Lowered, "compile", untouchable)
    with pytest.raises(ValueError, match=r"^hyperparameter other changes a loss but has no deriv"):
        tune(METHODS[name](problem), problem, workdir=tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_a_hypernet_moves_what_has_no_derivative():
    problem = scalar(EFFECTS["odds"])
    method = METHODS["local_response"](problem)
    path = calm(method, VALUES, problem=problem, seeds=0, steps=4).history.unconstrained["other"]
    assert path[0] != path[-1]


@pytest.mark.parametrize("name", ["truncated", "real_time", "local_response", "global_response"])
def test_a_hyperparameter_that_changes_a_loss_alike_for_all_weights_is_refused(name):
    problem = penalized(lambda other, weights: other)
    with pytest.raises(ValueError, match=r"^hyperparameter other changes the training loss by as"):
        tune(METHODS[name](problem), problem)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("global_response", {}),  # λ̂ waits for a first phase
        ("truncated", {"hyper_optimizer": optax.MultiSteps(SGD, 2)}),
        ("truncated", {"hyper_optimizer": optax.sgd(optax.linear_schedule(0.0, 0.1, 3))}),
    ],
)
def test_what_moves_later_than_in_the_first_round_is_not_refused(name, options):
    problem = scalar(EFFECTS["smooth"])
    method = METHODS[name](problem, **options)
    history = calm(method, VALUES, problem=problem, seeds=0, steps=4, inner_steps=1).history
    for leaf in history.unconstrained.values():
        assert leaf[0] != leaf[-1]


def test_hyperparameters_may_be_held_in_a_first_phase(tmp_path):
    problem = scalar(EFFECTS["smooth"])
    options = {"problem": problem, "seeds": 0, "inner_steps": 1, "workdir": tmp_path}
    held = METHODS["truncated"](problem, hyper_optimizer=optax.sgd(0.0))
    with pytest.warns(RuntimeWarning, match="stood still.* 0 since step 0.*one of 0, as for a fir"):
        result = calm(held, VALUES, steps=2, **options)
    assert result.hyperparams == pytest.approx(VALUES)
    free = METHODS["truncated"](problem, hyper_optimizer=SGD)
    result = calm(free, VALUES, steps=4, resume=True, **options)
    assert all(result.hyperparams[name] != pytest.approx(VALUES[name]) for name in VALUES)


@pytest.mark.parametrize(
    "method",
    [
        lambda problem: shn.real_time(problem, optimizer=SGD, hyper_optimizer=SGD),
        # Weights start at zero, and a first step has no derivative by their decay.
        lambda problem: METHODS["truncated"](problem),
        # The training loss has no curvature.
        lambda problem: METHODS["local_response"](problem),
    ],
    ids=["real_time", "truncated", "local_response"],
)
@pytest.mark.parametrize("loss", ["linear", "decay"])
def test_losses_without_slope_at_the_start_are_not_refused(method, loss):
    train_loss = {
        "linear": lambda w, lam, batch, key: w * lam * batch.mean() + 0.1 * w**2,
        "decay": lambda w, lam, batch, key: jnp.mean((w - batch) ** 2) + jnp.exp(lam) * w**2,
    }[loss]
    problem = Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=train_loss,
        valid_loss=lambda w, lam, batch: jnp.mean((w - batch) ** 2),
    )
    result = calm(method(problem), np.float32(-1), problem=problem, inner_steps=1, steps=4, seeds=0)
    assert result.history.unconstrained[-1] != -1


# --- hyperparameters that enter nothing ---------------------------------------------------------

RATES = {"decay": -1.0, "rate": -2.0}


def decayed(jitted):
    """A problem with a decay, given a step size for whoever reads it."""

    def train_loss(w, lam, batch, key):
        return jnp.mean((w - batch) ** 2) + jnp.exp(lam["decay"]) * w**2

    return Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=jax.jit(train_loss) if jitted else train_loss,
        valid_loss=lambda w, lam, batch: jnp.mean((w - batch) ** 2),
    )


@pytest.mark.parametrize("name", ["local_response", "truncated"])
@pytest.mark.parametrize("jitted", [False, True])
def test_a_hyperparameter_that_nothing_reads_is_refused(name, jitted, tmp_path):
    problem = decayed(jitted)
    with pytest.raises(ValueError, match=r"^hyperparameter rate enters neither loss, .*unrolled"):
        calm(METHODS[name](problem), RATES, problem=problem, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_hyperparameter_that_the_inner_optimizer_reads_is_tuned():
    problem = decayed(jitted=True)
    method = shn.unrolled(
        problem,
        optimizer=lambda lam: optax.sgd(jnp.exp(lam["rate"])),
        hyper_optimizer=SGD,
    )
    history = calm(method, RATES, problem=problem, steps=2).history
    assert np.all(history.hyperparams["rate"][-1] != RATES["rate"])


# --- decisions in Python ------------------------------------------------------------------------


class Dropped(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(1)(nn.Dropout(self.rate, deterministic=False)(inputs))


def dropped(train_loss=None):
    def loss(params, rate, batch, key):
        inputs, targets = batch
        outputs = Dropped(rate).apply({"params": params}, inputs, rngs={"dropout": key})
        return jnp.mean((outputs - targets) ** 2)

    return Problem(
        init=lambda key: {"Dense_0": {"kernel": jnp.zeros((2, 1)), "bias": jnp.zeros(1)}},
        train_loss=train_loss or loss,
        valid_loss=lambda params, rate, batch: loss(params, 0.0, batch, jax.random.key(0)),
        space=hp.bounded(0.0, 1.0),
    )


def test_a_rate_that_a_layer_compares_in_python_is_refused_with_the_mask_to_write(tmp_path):
    problem = dropped()
    with pytest.raises(
        ValueError, match=r"decides in Python on a hyper.*Dropout.*1 - rate"
    ) as refused:
        tune(METHODS["local_response"](problem), problem, 0.5, workdir=tmp_path / "run")
    assert isinstance(refused.value.__cause__, jax.errors.TracerBoolConversionError)
    assert not (tmp_path / "run").exists()


def test_another_decision_in_python_keeps_its_own_error():
    problem = dropped(lambda params, rate, batch, key: 1.0 if jnp.sum(batch[0]) > 0 else rate)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        tune(METHODS["local_response"](problem), problem, 0.5)


# --- hyperparameters that stood still -----------------------------------------------------------


def stopping_at(number, norm, seeds_that_move=lambda state: False):
    """A walk that stands still from a step on, and says another norm there."""

    def on_step(state, info):
        still = (state.steps > number) & ~seeds_that_move(state)
        before = state.hyperparams + RATE  # the batches' mean is 1
        kept = jnp.where(still, before, state.hyperparams)
        said = jnp.where(still, norm, 1.0)
        return state._replace(hyperparams=kept), info._replace(hypergradient_norm=said)

    return walk(on_step=on_step)


@pytest.mark.parametrize(
    ("norm", "cause"),
    [(0.0, "hypergradient is exactly zero"), (3.0, "step size has become too sm")],
)
def test_hyperparameters_that_stood_still_are_warned_of(norm, cause):
    with pytest.warns(
        RuntimeWarning, match=rf"of seeds 0 since step 6, 5 since step 6.*{cause}"
    ) as w:
        calm(stopping_at(6, norm))
    assert w[0].filename.endswith("walks.py")


def test_those_that_stood_still_for_less_than_half_of_the_run_are_not():
    calm(stopping_at(7, 0.0))


def test_a_run_that_ends_in_its_first_phase_is_not_warned_of():
    problem = scalar(EFFECTS["smooth"])
    method = METHODS["global_response"](problem)  # whose first phase has two rounds
    result = calm(method, VALUES, problem=problem, seeds=0, steps=2, inner_steps=1)
    assert result.hyperparams["other"] == pytest.approx(VALUES["other"])


def test_only_seeds_that_stood_still_are_named():
    numbers = calm().state.number
    larger = float(numbers.max())
    moving = (0, 5)[int(np.argmax(numbers))]
    with pytest.warns(RuntimeWarning, match=rf"of seeds {5 - moving} since step 0\."):
        calm(stopping_at(0, 0.0, lambda state: state.number == larger))


def test_hoag_with_a_step_size_next_to_nothing_is_warned_of():
    problem = scalar(EFFECTS["smooth"])
    method = shn.hoag(problem, optimizer=SGD, learning_rate=1e-12, solver_steps=1)
    with pytest.warns(RuntimeWarning, match="too small to change"):
        calm(method, VALUES, problem=problem, seeds=0)
