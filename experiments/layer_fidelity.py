"""Fidelity of Kronecker's hypergradient for the layers that people train.

Convolutions, BatchNorm, attention, recurrence, and a layer that is applied several times, each in a
small network with one decay per weight, at λ = level + N(0, 1). After training at this fixed λ the
hypergradient of `centered_response` is held against implicit differentiation at the very same
weights: conjugate gradients, run until they have converged, on the Gauss-Newton curvature of the
whole training set. Kronecker is there twice: with its factors alone, and with steps on minibatches
towards the Gauss-Newton curvature's own solution, tracked over the last rounds of the training. The
hypergradient in one decay per layer, a factor of all its weights' decays, is their sum.

python -m experiments.layer_fidelity --config=configs/layer_fidelity.py --workdir=DIR
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _launch, _layer_fidelity_report, _plots, _results
from experiments import _layer_networks as networks
from experiments import _regularized_network as shrunk
from experiments._layer_fidelity_report import PER_LAYER, WHOLE
from experiments._recorder import recorder
from shohypernet import jacobians
from shohypernet import problem as problems
from shohypernet._internal import convolutions
from shohypernet.batches import Data, minibatch
from shohypernet.hypergradients import implicit
from shohypernet.hypergradients.curvature import gauss_newton_of
from shohypernet.linear_solvers import Product, Solution, conjugate_gradient
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Hyperparams, Key, Params

NAME = "layer_fidelity"


class Draw(NamedTuple):
    """Hypergradients at the weights of one draw, and what became of these.

    Attributes:
      tracked: of Kronecker with products.
      alone: of its factors alone.
      reference: converged.
      residual: of the reference, ‖C x − b‖₂ / ‖b‖₂.
      products: of the reference.
      valid_loss: cross-entropy at the weights.
    """

    tracked: Hyperparams
    alone: Hyperparams
    reference: Hyperparams
    residual: jax.Array
    products: jax.Array
    valid_loss: jax.Array


NETWORKS = {
    "LeNet": networks.LeNet(),
    "ResNet": networks.ResNet(),
    "transformer": networks.Transformer(),
    "GRU": networks.Recurrent(),
    "shared, 2 times": networks.Shared(2),
    "shared, 5 times": networks.Shared(5),
}


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Compare the hypergradients of each network; a resumed run goes on with the next network."""
    data = shrunk.load_data(config)
    found = {}
    for name in config.networks:
        kept = workdir / f"{name.replace(', ', '_').replace(' ', '_')}.json"
        if not (resume and kept.exists()):
            kept.write_text(json.dumps(_compare(NETWORKS[name], config, data)))
        found[name] = json.loads(kept.read_text())
        print(_layer_fidelity_report.line(name, found[name]), flush=True)

    _plots.save_figure(_layer_fidelity_report.draw(found), workdir, NAME)
    by_network = {
        f"{name}: {what}": np.array(list(each[what].values()))
        for name, each in found.items()
        for what in ("tracked", "alone")
    }
    _results.save_arrays(workdir, NAME, by_network)
    return {
        "main": {
            f"{measure}, {name}": float(np.mean(each["tracked"][WHOLE], axis=0)[i])
            for name, each in found.items()
            for i, measure in enumerate(("cosine", "length"))
        },
        "claims": _layer_fidelity_report.claims(found),
        "found": found,
    }


def _compare(network: Any, config: Any, data: Data) -> dict[str, Any]:
    """Cosines and lengths by layer, [cosine, length] of each draw."""
    problem = shn.supervised(
        network,
        data.train.inputs[:1],
        lambda logits, targets: jnp.mean(optax.softmax_cross_entropy(logits, targets)),
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
        train_kwargs={"train": True},
    )
    decay = float(np.exp(config.level))
    decays = shn.penalties.decays(problems.param_shapes(problem), decay, "weight")
    level = jax.tree.map(jnp.log, decays)
    # Apart, for that spares each from being compiled anew whenever another changes.
    train, follow, refer = (
        jax.jit(lambda *at, part=part: part(problem, config, *at))
        for part in (_trained, _followed, _reference)
    )
    draws = []
    for seed in config.seeds:
        key_noise, key_train, key_rounds = jax.random.split(jax.random.key(seed), 3)
        hyperparams = optax.tree.add(level, optax.tree.random_like(key_noise, level))
        params, model_state = train(key_train, hyperparams, data)
        tracked, alone, at = follow(key_rounds, hyperparams, params, model_state, data)
        draws.append(Draw(tracked, alone, *refer(hyperparams, *at, data)))
        print(f"draw {seed}: {int(draws[-1].products)} products", flush=True)
    return {
        "tracked": _measured([each.tracked for each in draws], draws),
        "alone": _measured([each.alone for each in draws], draws),
        "residual": [float(each.residual) for each in draws],
        "products": [int(each.products) for each in draws],
        "valid_loss": [float(each.valid_loss) for each in draws],
    }


def _measured(estimates: list[Hyperparams], draws: list[Draw]) -> dict[str, list[list[float]]]:
    """[cosine, length] of each draw, of the whole hypergradient and by layer."""
    found: dict[str, list[list[float]]] = {}
    for estimate, draw in zip(estimates, draws, strict=True):
        parts, references = _layers(estimate), _layers(draw.reference)
        for name, part in parts.items():
            measures = shn.diagnostics.cosine, shn.diagnostics.norm_ratio
            each = [float(measure(part, references[name])) for measure in measures]
            found.setdefault(name, []).append(each)
    return found


def _layers(tree: Hyperparams) -> dict[str, list[jax.Array]]:
    """The whole of a tree, its sum in each layer, and its leaves by layer, those of one module."""
    layers: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        layer = jax.tree_util.keystr(path[:-1] or path, simple=True, separator="/")
        layers.setdefault(layer, []).append(leaf)
    sums = [jnp.stack([jnp.sum(leaf) for leaf in each]).sum() for each in layers.values()]
    return {WHOLE: jax.tree.leaves(tree), PER_LAYER: sums} | layers


def _trained(
    problem: Problem, config: Any, key: Key, hyperparams: Hyperparams, data: Data
) -> tuple[Params, Any]:
    """Weights and the model's state after all but the last rounds of the training."""
    steps = config.steps - config.rounds * config.inner_steps
    made = shn.train(
        problem,
        optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps, config.last_share)),
        key,
        jax.tree.map(jnp.exp, hyperparams),
        data.train,
        steps=steps,
        batch_size=config.batch_size,
    )
    return made.params, made.model_state


def _followed(
    problem: Problem,
    config: Any,
    key: Key,
    hyperparams: Hyperparams,
    params: Params,
    model_state: Any,
    data: Data,
) -> tuple[Hyperparams, Hyperparams, tuple[Params, Any]]:
    """Hypergradients after the last rounds, tracked and alone, with the weights they are of."""

    def kronecker(products: int) -> jacobians.ResponseJacobian:
        return jacobians.kronecker(
            iterations=config.iterations, damping=config.damping, products=products
        )

    tuner = shn.centered_response(
        problem,
        kronecker(config.products),
        optimizer=optax.adam(config.last_share * config.learning_rate),
        hyper_optimizer=recorder(),
    )

    def a_round(state: Any, key: Key) -> tuple[Any, None]:
        key_train, key_step = jax.random.split(key)
        batches = minibatch(key_train, data.train, (config.inner_steps, config.batch_size))
        return tuner.step(key_step, state, batches, data.valid)[0], None

    key_init, key_rounds, key_batch = jax.random.split(key, 3)
    with convolutions.as_products():
        state: Any = tuner.init(key_init, hyperparams)
        state = state._replace(params=params, model_state=model_state)
        state, _ = jax.lax.scan(a_round, state, jax.random.split(key_rounds, config.rounds))
        held = problems.with_state(unconstrained(problem), state.model_state)
        batches = minibatch(key_batch, data.train, (1, config.batch_size))
        point = jacobians.Point(state.params, hyperparams, batches, key_batch)
        slope = jax.grad(held.valid_loss)(state.params, hyperparams, data.valid)
        alone, _ = kronecker(0).vjp(held, state.jacobian_state, point, slope)
    return state.hyper_opt_state, alone, (state.params, state.model_state)


def _reference(
    problem: Problem,
    config: Any,
    hyperparams: Hyperparams,
    params: Params,
    model_state: Any,
    data: Data,
) -> tuple[Hyperparams, jax.Array, jax.Array, jax.Array]:
    """The converged hypergradient, its residual and its products, and the validation loss."""

    def solver(product: Product, target: Params, key: Key | None = None) -> Solution:
        enough = config.tolerance * optax.tree.norm(target)
        return conjugate_gradient(config.cg_steps, tolerance=enough)(product, target, key)

    held = problems.with_state(unconstrained(problem), model_state)
    curvature: Callable[..., Any] = gauss_newton_of(held)
    with convolutions.as_products():
        made = implicit.hypergradient(
            held,
            hyperparams,
            params,
            data.train,
            data.valid,
            jax.random.key(0),
            solver=solver,
            curvature=curvature,
        )
    products = made.gradient_evaluations // 2 - 1
    return made.gradient, made.residual, products, made.valid_loss


if __name__ == "__main__":
    _launch.main(run)
