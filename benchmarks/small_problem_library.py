"""The contender: shohypernet's own method in chunks as `fit` compiles them, and `fit` itself."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from benchmarks import setting
from benchmarks.setting import Arrays
from experiments.small_problem import problem_on
from shohypernet.data import Data
from shohypernet.hypernets import Hypernet


class Subject(NamedTuple):
    """What is measured."""

    problem: shn.Problem
    hypernet: Hypernet
    method: shn.HyperOptimizer
    data: Data


class Chunk(NamedTuple):
    """Steps of some seeds in one compiled call.

    Attributes:
      advance: as of a `setting.Contender`.
      steps: the number to ask of it.
      compile_seconds: what it took to trace and compile.
      bytes_held: arguments, results and temporaries of the call, as the compiler counts them.
      step_flops: of one step of all seeds, as the compiler counts them.
      step_bytes: read and written by one step, likewise.
    """

    advance: Callable[[int], None]
    steps: int
    compile_seconds: float
    bytes_held: int
    step_flops: float
    step_bytes: float


def subject(data: Data) -> Subject:
    """The small problem and Algorithm 3, made of the library's parts."""
    problem = problem_on(data)
    hypernet = shn.hypernets.linear(jax.eval_shape(problem.init, jax.random.key(0)))
    method = shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.sgd(setting.HYPERNET_LEARNING_RATE),
        hyper_optimizer=optax.adam(
            setting.HYPER_LEARNING_RATE, *setting.ADAM_DECAYS, eps=setting.ADAM_EPSILON
        ),
        sampler=shn.hyperparameters.local_gaussian(setting.SAMPLING_SCALE),
        samples=setting.SAMPLES,
    )
    return Subject(problem, hypernet, method, data)


def start_arrays(subject: Subject, seed: int) -> Arrays:
    """Where the library starts a seed, for the others to start there too."""
    phi = _start(subject.method, jax.random.key(seed)).hypernet_params
    # The hypernet is linear, so its value at 0 is the offset and the change from 0 to 1 the slope.
    offset = subject.hypernet.apply(phi, jnp.float32(0))["Dense_0"]
    at_one = subject.hypernet.apply(phi, jnp.float32(1))["Dense_0"]
    slope = jax.tree.map(lambda a, b: a - b, at_one, offset)
    weights = slope["kernel"], slope["bias"], offset["kernel"], offset["bias"]
    return Arrays(*map(np.asarray, (*weights, *subject.data.train, *subject.data.valid)))


def chunk(subject: Subject, seeds: int, steps: int) -> Chunk:
    """The steps of seeds 0, 1, … compiled as `fit` does, less its evaluation at the chunk's end."""
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    states = jax.jit(jax.vmap(lambda key: _start(subject.method, key)))(keys)
    batches = _batches(subject.data)

    def run(state: Any, key: jax.Array, batches: Any, first: jax.Array) -> Any:
        return jax.lax.scan(
            lambda s, i: _numbered_step(subject.method, key, s, i, batches),
            state,
            first + jnp.arange(steps),
        )[0]

    began = time.perf_counter()
    over_seeds = jax.jit(jax.vmap(run, in_axes=(0, 0, None, None)), donate_argnums=0)
    compiled = over_seeds.lower(states, keys, batches, jnp.int32(0)).compile()
    compile_seconds = time.perf_counter() - began
    # XLA counts the body of a loop once, so this is the cost of one step.
    cost: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    done = 0

    def advance(steps_asked: int) -> None:
        nonlocal states, done
        if steps_asked != steps:
            raise ValueError(f"compiled for {steps} steps, asked for {steps_asked}.")
        states = jax.block_until_ready(compiled(states, keys, batches, jnp.int32(done)))
        done += steps

    return Chunk(
        advance,
        steps,
        compile_seconds,
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        cost.get("flops", float("nan")),
        cost.get("bytes accessed", float("nan")),
    )


def replay(subject: Subject, steps: int, seed: int) -> np.ndarray:
    """The training and validation losses of a seed's first steps, shape (2, steps)."""
    return _run(
        subject.method,
        subject.data,
        steps,
        seed,
        setting.START,
        look=lambda state, info: jnp.stack([info.train_loss, info.valid_loss]),
    ).T


def drawn_noise(subject: Subject, steps: int, seed: int) -> np.ndarray:
    """The ε that the library draws in a seed's first steps, shape (steps, 10).

    They are read through the library's own plugs: with the loss Σ_k φ_k λ_k, and λ̂ = 0 held still
    and sampled with scale 1, the gradient that the optimiser of φ is given is ε.
    """
    weights = jax.tree.map(jnp.zeros_like, subject.problem.init(jax.random.key(0)))
    keeps_the_gradient = optax.GradientTransformation(
        init=lambda params: params, update=lambda updates, state, params=None: (updates, updates)
    )
    spy = shn.local_response(
        subject.problem,
        Hypernet(lambda key, hyperparams: jnp.zeros(setting.SAMPLES), lambda phi, h: weights),
        hypernet_optimizer=keeps_the_gradient,
        hyper_optimizer=optax.set_to_zero(),
        sampler=shn.hyperparameters.local_gaussian(1.0),
        samples=setting.SAMPLES,
        response_loss=lambda problem, hypernet, phi, sampled, batch, key: jnp.vdot(phi, sampled),
    )
    return _run(
        spy, subject.data, steps, seed, start=0.0, look=lambda state, info: state.hypernet_opt_state
    )


def fit(subject: Subject, steps: int, eval_every: int) -> shn.Result:
    """The driver itself, one seed."""
    return shn.fit(
        subject.problem,
        subject.method,
        subject.data,
        jnp.float32(setting.START),
        steps=steps,
        eval_every=eval_every,
        progress=False,
    )


def _run(
    method: shn.HyperOptimizer,
    data: Data,
    steps: int,
    seed: int,
    start: float,
    look: Callable[[Any, Any], jax.Array],
) -> np.ndarray:
    """What `look(state, info)` sees after each of a seed's first steps."""
    key = jax.random.key(seed)

    @jax.jit
    def run(state: Any, batches: Any) -> jax.Array:
        def step(state: Any, number: jax.Array) -> tuple[Any, jax.Array]:
            state, info = _numbered_step(method, key, state, number, batches)
            return state, look(state, info)

        return jax.lax.scan(step, state, jnp.arange(steps))[1]

    return np.array(run(_start(method, key, start), _batches(data)))


def _start(method: shn.HyperOptimizer, key: jax.Array, start: float = setting.START) -> Any:
    return method.init(jax.random.split(key)[0], jnp.float32(start))


def _batches(data: Data) -> tuple[Any, Any]:
    return jax.tree.map(lambda x: x[None], data.train), data.valid


def _numbered_step(
    method: shn.HyperOptimizer, key: jax.Array, state: Any, number: jax.Array, batches: Any
) -> tuple[Any, Any]:
    key_step = jax.random.fold_in(jax.random.split(key)[1], number)
    return method.step(key_step, state, *batches)
