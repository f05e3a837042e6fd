"""The contender: shohypernet's own method, in chunks as `fit` compiles them."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from benchmarks import machine, settings
from benchmarks.settings import Draws, Hypernet, Setting, Start
from shohypernet._internal import sharding
from shohypernet.batches import CLASSES, Data, minibatch
from shohypernet.models import MLP


class Chunk(NamedTuple):
    """Steps of some seeds in one compiled call.

    Attributes:
      seeds: how many.
      advance: as of a `settings.Contender`.
      steps: the number to ask of it.
      compile_seconds: what it took to trace and compile.
      bytes_held: arguments, results and temporaries of the call, as the compiler counts them.
      step_flops: of one step of all seeds, as the compiler counts them.
      step_bytes: read and written by one step, likewise; NaN where seeds take turns.
    """

    seeds: int
    advance: Callable[[int], None]
    steps: int
    compile_seconds: float
    bytes_held: int
    step_flops: float
    step_bytes: float


def problem_of(setting: Setting) -> shn.Problem:
    """The problem, of the library's parts."""

    def squares(params: Any, decay: Any) -> jax.Array:
        return setting.decay_scale / 10 * shn.penalties.weight_decay(params, decay)

    return shn.supervised(
        MLP(CLASSES, setting.hidden),
        jnp.zeros((1, settings.PIXELS)),
        lambda outputs, targets: (
            setting.loss_factor * shn.losses.mean_squared_error(outputs, targets)
        ),
        squares if setting.rank else shn.penalties.norm_penalty,
        space=shn.hyperparameters.log(),
    )


def method_of(setting: Setting) -> shn.HyperOptimizer:
    """Algorithm 3, likewise."""
    optimizers = {"sgd": optax.sgd, "adam": optax.adam}
    return shn.local_response(
        problem_of(setting),
        _hypernet(setting),
        hypernet_optimizer=optimizers[setting.optimizer](setting.learning_rate),
        hyper_optimizer=optax.adam(
            setting.hyper_learning_rate, *settings.ADAM_DECAYS, eps=settings.ADAM_EPSILON
        ),
        sampler=shn.hyperparameters.local_gaussian(setting.sampling_scale),
        samples=setting.samples,
    )


def hyperparams_of(setting: Setting) -> Any:
    """Where λ̂ starts."""
    weights = jax.eval_shape(problem_of(setting).init, jax.random.key(0))
    per = "weight" if setting.rank else "model"
    return shn.penalties.decays(weights, setting.start, per)


def start(setting: Setting, data: Data, seed: int) -> Start:
    """Where the library starts a seed, for the others to start there too."""
    phi = _first_state(setting, jax.random.key(seed)).hypernet_params["params"]
    sizes = [int(np.prod(shape)) for shape in setting.shapes]
    into, into_bias = [], []
    if setting.rank:
        into = np.split(np.array(phi["hidden_kernel_0"]).T, np.cumsum(sizes)[:-1])
        into_bias = [np.array(phi["hidden_bias_0"])]
    rows = [
        np.array(phi[f"kernel_{i}"]).reshape(-1, *shape) for i, shape in enumerate(setting.shapes)
    ]
    out, out_bias = [array[:-1] for array in rows], [array[-1] for array in rows]
    return Start(setting, Hypernet(into, into_bias, out, out_bias), data)


def chunk(
    setting: Setting,
    data: Data,
    seeds: int,
    steps: int,
    at_once: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Chunk:
    """The steps of seeds 0, 1, … compiled as `fit` does, less its evaluation at the chunk's end."""
    method = method_of(setting)
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    states = jax.jit(jax.vmap(functools.partial(_first_state, setting)))(keys)
    with sharding.over(mesh):
        keys, states = sharding.place((keys, states))
        first, data = sharding.everywhere((jnp.int32(0), jax.tree.map(jnp.asarray, data)))

    def run(state: Any, key: jax.Array, data: Data, first: jax.Array) -> Any:
        def step(state: Any, keys: jax.Array) -> tuple[Any, None]:
            return method.step(keys[0], state, *_batches(setting, data, keys[1:]))[0], None

        numbers = first + jnp.arange(steps)
        step_keys = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(key, n), 3))(numbers)
        return jax.lax.scan(step, state, step_keys)[0]

    began = time.perf_counter()
    with sharding.over(mesh):
        over_seeds = jax.jit(sharding.each_seed(run, 2, at_once), donate_argnums=0)
        compiled = over_seeds.lower(states, keys, data, first).compile()
    compile_seconds = time.perf_counter() - began
    # XLA counts the body of a loop once, so this is the cost of one step, of the seeds of a turn.
    cost: Any = compiled.cost_analysis()
    turns, devices = seeds // (at_once or seeds), mesh.size if mesh else 1

    def advance(steps_asked: int) -> None:
        nonlocal states, first
        if steps_asked != steps:
            raise ValueError(f"compiled for {steps} steps, asked for {steps_asked}.")
        states = jax.block_until_ready(compiled(states, keys, data, first))
        first += steps

    return Chunk(
        seeds,
        advance,
        steps,
        compile_seconds,
        devices * machine.bytes_held(compiled),
        turns * cost.get("flops", float("nan")),
        # Of a state fetched for a turn it counts those of all seeds.
        float("nan") if turns > 1 else cost.get("bytes accessed", float("nan")),
    )


def draws(setting: Setting, steps: int, seed: int) -> Draws:
    """What the library draws for λ in a seed's first steps, and rows drawn here.

    ε is read through the library's own plugs: with the loss Σ_k φ_k λ_k, and λ̂ = 0 held still and
    sampled with scale 1, the gradient that the optimizer of φ is given is ε.
    """
    problem = problem_of(setting)
    weights = jax.tree.map(jnp.zeros_like, problem.init(jax.random.key(0)))
    still = jax.tree.map(jnp.zeros_like, hyperparams_of(setting))
    spy = shn.local_response(
        problem,
        shn.hypernets.Hypernet(
            lambda key, hyperparams: jax.tree.map(
                lambda leaf: jnp.zeros((setting.samples, *leaf.shape)), hyperparams
            ),
            lambda phi, hyperparams: weights,
        ),
        hypernet_optimizer=optax.GradientTransformation(
            init=lambda params: params,
            update=lambda updates, state, params=None: (updates, updates),
        ),
        hyper_optimizer=optax.set_to_zero(),
        sampler=shn.hyperparameters.local_gaussian(1.0),
        samples=setting.samples,
        response_loss=lambda problem, hypernet, phi, sampled, batch, key: jnp.asarray(
            optax.tree.vdot(phi, sampled)
        ),
    )
    random = np.random.default_rng(seed)
    rows = [
        np.arange(images)[None].repeat(steps, 0)
        if setting.batch is None
        else random.integers(images, size=(steps, setting.batch))
        for images in (setting.train_images, setting.valid_images)
    ]
    images = jnp.zeros((1, settings.PIXELS)), jnp.zeros((1, CLASSES))
    key, state, noise = jax.random.key(seed), spy.init(jax.random.key(seed), still), []
    step = jax.jit(spy.step)
    for number in range(steps):
        batches = jax.tree.map(lambda leaf: leaf[None], images), images
        state, _ = step(jax.random.fold_in(key, number), state, *batches)
        noise.append(
            [
                np.reshape(leaf, (setting.samples, -1))
                for leaf in jax.tree.leaves(state.hypernet_opt_state)
            ]
        )
    return Draws([np.stack(leaf) for leaf in zip(*noise, strict=True)], *rows)


def replay(setting: Setting, data: Data, draws: Draws, seed: int) -> np.ndarray:
    """The losses of a seed's first steps on given rows, shape (2, steps)."""
    method = method_of(setting)
    key = jax.random.key(seed)
    state, losses = _first_state(setting, key), []
    step = jax.jit(method.step)
    for number, rows in enumerate(zip(draws.train_rows, draws.valid_rows, strict=True)):
        train, valid = (
            jax.tree.map(lambda leaf, these=these: leaf[these], split)
            for split, these in zip(data[:2], rows, strict=True)
        )
        batches = jax.tree.map(lambda leaf: leaf[None], train), valid
        state, info = step(jax.random.fold_in(key, number), state, *batches)
        losses.append((info.train_loss, info.valid_loss))
    return np.array(losses).T


def _hypernet(setting: Setting) -> shn.hypernets.Hypernet:
    weights = jax.eval_shape(problem_of(setting).init, jax.random.key(0))
    if setting.rank:
        return shn.hypernets.factorized(weights, setting.rank)
    return shn.hypernets.linear(weights)


def _first_state(setting: Setting, key: jax.Array) -> Any:
    return method_of(setting).init(key, hyperparams_of(setting))


def _batches(setting: Setting, data: Data, keys: jax.Array) -> tuple[Any, Any]:
    if setting.batch is None:
        return jax.tree.map(lambda leaf: leaf[None], data.train), data.valid
    train = minibatch(keys[0], data.train, (1, setting.batch))
    return train, minibatch(keys[1], data.valid, setting.batch)
