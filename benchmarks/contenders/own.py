"""The library's own contender, in chunks as `fit` compiles them."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from benchmarks import _machine as machine
from benchmarks import _problems as problems
from benchmarks._problems import Setting
from benchmarks.contenders._base import Draws, HypernetArrays, Start
from shohypernet._internal import random, sharding
from shohypernet.batches import Data, minibatch
from shohypernet.models import MLP
from shohypernet.problem import param_shapes


class Chunk(NamedTuple):
    """Steps of some seeds in one compiled call.

    Attributes:
      seeds: number of seeds.
      advance: as of a `Contender`.
      steps: the number to ask of it.
      compile_seconds: duration of tracing and compilation.
      bytes_held: arguments, results and temporaries of the call, as the compiler counts them.
      step_flops: flops of one step of all seeds, as the compiler counts them.
      step_bytes: bytes read and written by one step, likewise; NaN where seeds take turns.
    """

    seeds: int
    advance: Callable[[int], None]
    steps: int
    compile_seconds: float
    bytes_held: int
    step_flops: float
    step_bytes: float


def problem_of(setting: Setting) -> shn.Problem:
    """The problem, made of the library's parts."""

    def squares(params: Any, decay: Any) -> jax.Array:
        return setting.decay_scale / 10 * shn.penalties.weight_decay(params, decay)

    def loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return setting.loss_factor * shn.losses.mean_squared_error(outputs, targets)

    return shn.supervised(
        MLP(shn.datasets.CLASSES, setting.hidden),
        jnp.zeros((1, problems.PIXELS)),
        loss,
        squares if setting.rank else shn.penalties.norm_penalty,
        space=shn.hyperparameters.log(),
    )


def method_of(setting: Setting, problem: shn.Problem) -> shn.HyperOptimizer:
    """Algorithm 3, likewise."""
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[setting.optimizer]
    hypernets, scale = shn.hypernets, shn.hypernets.PAPER_INIT_SCALE
    return shn.local_response(
        problem,
        hypernets.factorized(setting.rank, init_scale=scale)
        if setting.rank
        else hypernets.linear(init_scale=scale),
        hypernet_optimizer=optimizer(setting.learning_rate),
        hyper_optimizer=optax.adam(
            setting.hyper_learning_rate, *problems.ADAM_DECAYS, eps=problems.ADAM_EPSILON
        ),
        sampler=shn.samplers.local_gaussian(setting.sampling_scale),
        samples=setting.samples,
    )


def hyperparams_of(setting: Setting) -> Any:
    """Initial hyperparameters, in natural units."""
    return _decays(setting, math.exp(setting.start))


def start(setting: Setting, data: Data, seed: int) -> Start:
    """Initial state of a seed of the library, for the others to start from."""
    phi = _first_state(setting, random.key(seed)).hypernet_params
    into, into_bias = [], []
    if setting.rank:
        ((kernel, bias),) = phi.hidden
        into = np.split(np.array(kernel).T, np.cumsum(setting.hyperparam_sizes)[:-1])
        into_bias = [np.array(bias)]
    kernels = [
        np.array(kernel).reshape(-1, *shape)
        for kernel, shape in zip(jax.tree.leaves(phi.kernels), phi.shapes, strict=True)
    ]
    out, out_bias = [kernel[:-1] for kernel in kernels], [kernel[-1] for kernel in kernels]
    return Start(setting, HypernetArrays(into, into_bias, out, out_bias), data)


def chunk(
    setting: Setting,
    data: Data,
    seeds: int,
    steps: int,
    at_once: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Chunk:
    """The steps of seeds 0, 1, … compiled as `fit` does, less its evaluation at the chunk's end."""
    keys = jnp.stack([random.key(seed) for seed in range(seeds)])
    states = jax.jit(jax.vmap(functools.partial(_first_state, setting)))(keys)
    with sharding.over(mesh):
        keys, states = sharding.place((keys, states))
        first, data = sharding.everywhere((jnp.int32(0), jax.tree.map(jnp.asarray, data)))
        run = functools.partial(_steps, setting, steps)
        began = time.perf_counter()
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
        # It counts the states of all seeds where one is fetched for a turn.
        float("nan") if turns > 1 else cost.get("bytes accessed", float("nan")),
    )


def draws(setting: Setting, steps: int, seed: int) -> Draws:
    """The library's random numbers for λ in a seed's first steps, and rows drawn here.

    ε is read through the library's own interfaces: with the loss Σ_k φ_k λ_k, and λ̂ = 0 that never
    moves and is sampled with scale 1, the gradient that the optimizer of φ receives is ε.
    """
    spy = _spy(setting)
    generator = np.random.default_rng(seed)
    rows = [
        np.arange(images)[None].repeat(steps, 0)
        if setting.batch is None
        else generator.integers(images, size=(steps, setting.batch))
        for images in (setting.train_images, setting.valid_images)
    ]
    blank = jnp.zeros((1, problems.PIXELS)), jnp.zeros((1, shn.datasets.CLASSES))
    batches = jax.tree.map(lambda leaf: leaf[None], blank), blank
    key, noise = random.key(seed), []
    state = spy.init(key, _decays(setting, 0.0))
    step = jax.jit(spy.step)
    for number in range(steps):
        state, _ = step(jax.random.fold_in(key, number), state, *batches)
        epsilon = jax.tree.leaves(state.hypernet_opt_state)
        noise.append([np.reshape(leaf, (setting.samples, -1)) for leaf in epsilon])
    return Draws([np.stack(leaf) for leaf in zip(*noise, strict=True)], *rows)


def replay(setting: Setting, data: Data, draws: Draws, seed: int) -> np.ndarray:
    """The losses of a seed's first steps on given rows, shape (2, steps)."""
    key = random.key(seed)
    state, losses = _first_state(setting, key), []
    step = jax.jit(method_of(setting, problem_of(setting)).step)
    for number, rows in enumerate(zip(draws.train_rows, draws.valid_rows, strict=True)):
        train, valid = (
            jax.tree.map(lambda leaf, these=these: leaf[these], split)
            for split, these in zip(data[:2], rows, strict=True)
        )
        batches = jax.tree.map(lambda leaf: leaf[None], train), valid
        state, info = step(jax.random.fold_in(key, number), state, *batches)
        losses.append((info.train_loss, info.valid_loss))
    return np.array(losses).T


def _decays(setting: Setting, value: float) -> Any:
    shapes = param_shapes(problem_of(setting))
    return shn.penalties.decays(shapes, value, "weight" if setting.rank else "model")


def _first_state(setting: Setting, key: jax.Array) -> Any:
    method = method_of(setting, problem_of(setting))
    return method.init(key, _decays(setting, setting.start))


def _steps(
    setting: Setting, steps: int, state: Any, key: jax.Array, data: Data, first: jax.Array
) -> Any:
    """Steps of one seed, numbered from `first` on."""
    method = method_of(setting, problem_of(setting))

    def step(state: Any, keys: jax.Array) -> tuple[Any, None]:
        return method.step(keys[0], state, *_batches(setting, data, keys[1:]))[0], None

    numbers = first + jnp.arange(steps)
    step_keys = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(key, n), 3))(numbers)
    return jax.lax.scan(step, state, step_keys)[0]


def _batches(setting: Setting, data: Data, keys: jax.Array) -> tuple[Any, Any]:
    if setting.batch is None:
        return jax.tree.map(lambda leaf: leaf[None], data.train), data.valid
    train = minibatch(keys[0], data.train, (1, setting.batch))
    return train, minibatch(keys[1], data.valid, setting.batch)


def _spy(setting: Setting) -> shn.HyperOptimizer:
    """A method whose state of the optimizer of φ is the ε of its last step."""
    problem = problem_of(setting)
    weights = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), param_shapes(problem))

    def init(key: Any, params: Any, hyperparams: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros((setting.samples, *leaf.shape)), hyperparams)

    def loss(
        problem: Any, hypernet: Any, hypernet_params: Any, sampled: Any, batch: Any, key: Any
    ) -> jax.Array:
        return jnp.asarray(optax.tree.vdot(hypernet_params, sampled))

    return shn.local_response(
        problem,
        shn.hypernets.Hypernet(init, lambda phi, hyperparams: weights),
        hypernet_optimizer=optax.GradientTransformation(
            init=lambda params: params,
            update=lambda updates, state, params=None: (updates, updates),
        ),
        hyper_optimizer=optax.set_to_zero(),
        sampler=shn.samplers.local_gaussian(1.0),
        samples=setting.samples,
        response_loss=loss,
    )
