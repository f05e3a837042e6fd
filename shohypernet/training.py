"""Training from scratch: at given hyperparameters, along a schedule, or again at tuned ones."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop, saving
from shohypernet._internal import random, validation
from shohypernet.batches import Data, SplitLosses, Turn
from shohypernet.fitting import _plan as plans
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.sources import Source, reading
from shohypernet.sources._source import is_read
from shohypernet.types import Batch, Hyperparams, Key, ModelState, Params


@saving.known
class Trained(NamedTuple):
    """Weights trained for one λ.

    Attributes:
      params: weights w after the last step.
      train_losses: training loss before each step, on its minibatch, shape (steps,).
      model_state: the model's state after the last step.
    """

    params: Params
    train_losses: jax.Array
    model_state: ModelState = ()


def train(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    key: Key,
    hyperparams: Hyperparams | Callable[[jax.Array], Hyperparams],
    examples: Batch,
    *,
    steps: int,
    batch_size: int | None = None,
) -> Trained:
    """Weights trained from scratch on L_train(·, λ).

        w ← w − α ∇_w L_train(w, λ, x)

    A pure function, so that a population of runs is one compiled call that shares the data:

        jax.vmap(lambda λ: train(problem, optax.adam(1e-3), key, λ, data.train, steps=1_000))(many)

    Args:
      problem: gives the initial weights and the training loss.
      optimizer: α, any optax optimizer.
      key: PRNG key of the initial weights, the minibatches and the stochastic terms of the loss.
      hyperparams: λ, in natural units; or a schedule of it, a function from the share of the steps
        that are done, scalar in [0, 1), such as `History.schedule` gives.
      examples: the training data, a tree with a shared leading axis.
      steps: updates of w.
      batch_size: examples per step, drawn with replacement; None takes all of them each step.

    Returns:
      The weights and the losses on the way.

    Raises:
      ValueError: if steps is below 1, or λ doesn't fit the problem's space.
      TypeError: for something that is no problem or no optimizer, or a loss that can't be traced.

    Reference:
      The inner loop of Algorithm 1, arXiv:1802.09419.
    """
    validation.problem(problem, "train()")
    (optimizer,) = validation.optimizer("train", optimizer=optimizer)
    validation.whole("train", steps=steps)
    scheduled = _is_schedule(hyperparams)
    at = hyperparams if scheduled else lambda share: hyperparams
    hp.require_prefix(problem.space, jax.eval_shape(at, 0.0) if scheduled else hyperparams)
    # Its losses read natural units as they are.
    problem = problem._replace(space=hp.UNCONSTRAINED)

    def body(state: TrainState, turns: tuple[Turn, Turn | None]) -> tuple[TrainState, jax.Array]:
        turn, following = turns
        share = turn.number / steps
        sizes: Any = {"batch_size": batch_size, "following": following}
        return inner_loop.drawn_step(problem, optimizer, turn, state, at(share), examples, **sizes)

    # All keys in one go: drawn in the loop, they would take as long as a small product.
    key = random.fast(key)
    numbers = jnp.arange(steps)
    turns, following = Turn(jax.vmap(inner_loop.step_key, (None, 0))(key, numbers), numbers), None
    if is_read(examples):
        following = jax.tree.map(lambda leaf: leaf[jnp.minimum(numbers + 1, steps - 1)], turns)
    with validation.traceable("train()"), reading(train=examples):
        state, losses = jax.lax.scan(
            body, inner_loop.start(problem, optimizer, key), (turns, following)
        )
        if following is not None:
            jax.block_until_ready(losses)  # unless traced
    return Trained(state.params, losses, state.model_state)


@saving.known
class Retrained(NamedTuple):
    """Weights trained again, and what they are worth; arrays of several seeds lead with their axis.

    Attributes:
      params: weights w after the last step.
      model_state: the model's state that goes with them, `()` if there is none.
      losses: the problem's `valid_loss` on all examples of each split. Of weights that were trained
        on the validation examples too, only that on the test examples says what they are worth.
      metrics: `SplitLosses` of each of the problem's metrics, by its name.
    """

    params: Params
    model_state: ModelState
    losses: SplitLosses
    metrics: dict[str, SplitLosses]


def retrain(
    problem: Problem,
    tuned: Any,
    data: Data,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch_size: int | None = None,
    with_valid: bool = True,
    seeds: int | Sequence[int] = 0,
) -> Retrained:
    """Train again from scratch at tuned hyperparameters, as one does before a model is used.

    The weights that come with a result were trained while λ moved, and on the training examples
    alone. What a method is worth shows here, beside training again at λ found in other ways.

    Args:
      problem: gives the initial weights and the losses.
      tuned: λ in natural units; a `Result` or `SearchResult` of one seed, whose final λ is taken;
        or a schedule, such as `result.history.schedule` (see `train`).
      data: three splits.
      optimizer: α, any optax optimizer.
      steps: updates of w.
      batch_size: examples per step, drawn with replacement; None takes all of them.
      with_valid: whether to train on training and validation examples together.
      seeds: of initial weights and minibatches, whole numbers: one, or a sequence for results with
        a leading axis.

    Returns:
      The weights, and their losses and metrics on all splits.

    Raises:
      ValueError: for a result of several seeds, bad sizes, λ that doesn't fit the problem's space,
        or example numbers (`batches.numbered`), which two splits can't share.
      TypeError: for something that is no problem or no optimizer.
    """
    hyperparams = hyperparams_of(tuned)
    again = retrainer(problem, data, optimizer, steps, batch_size, seeds, "retrain")
    return again(hyperparams, with_valid)


def retrainer(
    problem: Problem,
    data: Data,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch_size: int | None,
    seeds: int | Sequence[int],
    function: str,
) -> Callable[[Any, bool], Retrained]:
    """`retrain` of many λ, by programs that are compiled once for all.

    Returns:
      `again(hyperparams, with_valid) -> Retrained`.
    """
    validation.problem(problem, f"{function}()")
    several = [seeds] if isinstance(seeds, int | np.integer) else seeds
    keys = jnp.stack([random.key(seed) for seed in plans.distinct_seeds(several, function)])
    data = plans.splits(data, function)
    plans.require_sizes(function, data, batch_size=batch_size)
    natural = problem._replace(space=hp.UNCONSTRAINED)

    def one(key: Key, hyperparams: Any, data: Data, examples: Batch) -> Retrained:
        sizes = {"steps": steps, "batch_size": batch_size}
        made = train(problem, optimizer, key, hyperparams, examples, **sizes)
        at = made.params, made.model_state, at_end(hyperparams)
        return Retrained(*at[:2], *inner_loop.evaluate(natural, *at, data))

    def each(keys: Key, hyperparams: Any, data: Data, examples: Batch) -> Retrained:
        made = jax.lax.map(lambda key: one(key, hyperparams, data, examples), keys)
        return jax.tree.map(lambda leaf: leaf[0], made) if several is not seeds else made

    compiled = jax.jit(each)

    def again(hyperparams: Any, with_valid: bool) -> Retrained:
        examples = _together(data) if with_valid else data.train
        with reading(**data._asdict()):
            if _is_schedule(hyperparams):
                along = jax.jit(lambda *rest: each(rest[0], hyperparams, *rest[1:]))
                return jax.block_until_ready(along(keys, data, examples))
            hp.require_prefix(problem.space, hyperparams)
            at = jax.tree.map(_as_float, hyperparams)
            return jax.block_until_ready(compiled(keys, at, data, examples))

    return again


def _as_float(number: Any) -> Any:
    """Of one dtype, however it was written, so that it serves in the same program."""
    array = jnp.asarray(number)
    weak = not hasattr(number, "dtype") and jnp.issubdtype(array.dtype, jnp.number)
    return jnp.asarray(array, jnp.result_type(float)) if weak else array


def hyperparams_of(tuned: Any) -> Any:
    """λ in natural units of a result, or what was given.

    Raises:
      ValueError: for a result of several seeds.
    """
    if not (hasattr(tuned, "hyperparams") and hasattr(tuned, "seeds")):
        return tuned
    if isinstance(tuned.seeds, tuple):
        raise ValueError(
            f"training again needs a result of one seed, got {tuned.seeds}: take result.seed(i)."
        )
    return tuned.hyperparams


def at_end(hyperparams: Any) -> Any:
    """λ itself, or that in which a schedule ends."""
    return hyperparams(1.0) if _is_schedule(hyperparams) else hyperparams


def _is_schedule(hyperparams: Any) -> bool:
    return callable(hyperparams) and jax.tree_util.all_leaves([hyperparams])


def _together(data: Data) -> Batch:
    """Training and validation examples in one split."""
    train, valid = data.train, data.valid
    if isinstance(train, Source) or isinstance(valid, Source):
        raise ValueError(
            "retrain(with_valid=True) can't join sources: make one of both, or with_valid=False."
        )
    if jax.tree.structure(train) != jax.tree.structure(valid):
        raise ValueError(
            "retrain(with_valid=True) needs training and validation examples of the same form, got "
            f"{jax.tree.structure(train)} and {jax.tree.structure(valid)}."
        )
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), train, valid)
