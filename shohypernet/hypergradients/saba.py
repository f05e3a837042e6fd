"""SABA: SOBA with a memory of the derivatives on every block of examples.

    d = d_i(now) − m_i + (1/N) Σ_k m_k,   m_i ← d_i(now)

stands for each of the five derivatives in SOBA's directions (see `soba`): of L_train on block i of
N, and of L_valid on block j of M, drawn uniformly. In expectation d is the derivative on all
examples, as it is without memory, but its variance vanishes where w, q and λ come to rest, so that
constant step sizes converge. This is SAGA (Defazio et al. 2014, arXiv:1407.0202) for two levels.

The paper remembers derivatives by example. Each has 2 |w| + |λ| numbers, and so it is done here by
blocks of examples.

Dagréou, Ablin, Vaiter and Moreau (2022), arXiv:2201.13409.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import _tracking as tracking
from shohypernet.hypergradients._tracking import Estimate, TrainTerms, ValidTerms
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params

Terms = TypeVar("Terms")


class Memory(NamedTuple):
    """Derivatives as they were when each block was drawn last.

    Attributes:
      blocks: m, trees whose leaves lead with the axis of blocks; zeros before the first draw.
      mean: their mean over blocks.
    """

    blocks: Any
    mean: Any


class SabaMemory(NamedTuple):
    """Memory of `saba`: of the blocks of training and of validation examples."""

    train: Memory
    valid: Memory


def corrected(memory: Memory, block: Any, terms: Terms) -> tuple[Terms, Memory]:
    """An unbiased estimate of the mean over blocks, from one block and the memory of all.

    Args:
      memory: m, of N blocks.
      block: number i of the block, a whole number.
      terms: d_i, a tree like the memory's mean.

    Returns:
      d, and the memory with d_i in it.
    """
    count = jax.tree.leaves(memory.blocks)[0].shape[0]
    change = jax.tree.map(lambda new, old: new - old[block], terms, memory.blocks)
    blocks = jax.tree.map(lambda old, new: old.at[block].set(new), memory.blocks, terms)
    mean = jax.tree.map(lambda mean, change: mean + change / count, memory.mean, change)
    return optax.tree.add(memory.mean, change), Memory(blocks, mean)


def saba(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    train_blocks: int,
    valid_blocks: int,
    adjoint_optimizer: optax.GradientTransformation | None = None,
) -> HyperOptimizer:
    """SABA: like `soba`, on blocks of examples that it draws by itself.

    It has to know which examples it sees, and so each of its batches is the whole split, in the
    same order: `fit` without `train_batch_size` and `valid_batch_size`, and with `inner_steps=1`
    for the paper's algorithm. For one block of each split its step is deterministic.

    Args:
      problem: the bilevel problem.
      optimizer: any optax optimizer of the weights.
      hyper_optimizer: for λ.
      train_blocks: number N of blocks of training examples, a divisor of their number. The memory
        is N (2 |w| + |λ|) numbers.
      valid_blocks: number M of blocks of validation examples, likewise; M (|w| + |λ|) numbers.
      adjoint_optimizer: for q; if None the same as for the weights, as in the paper.

    Returns:
      A HyperOptimizer whose round of T training batches takes 4T gradient evaluations, each on one
      block. Its step raises a ValueError for examples that can't be divided into blocks.

    Raises:
      ValueError: for a number of blocks below 1.
      TypeError: if optimizer is a function of λ, which this can't tune, or something else that is
        no problem or optimizer.

    Reference:
      Dagréou et al. (2022), arXiv:2201.13409.
    """
    parts = restarts.parts("saba", problem, optimizer, hyper_optimizer)
    of_adjoint = tracking.optimizer_of_adjoint("saba", parts, adjoint_optimizer)
    validation.whole("saba", train_blocks=train_blocks, valid_blocks=valid_blocks)

    def memory(params: Params, hyperparams: Hyperparams) -> SabaMemory:
        return SabaMemory(
            _empty(TrainTerms(params, params, hyperparams), train_blocks),
            _empty(ValidTerms(params, hyperparams), valid_blocks),
        )

    def estimate(
        memory: SabaMemory,
        inner: TrainState,
        adjoint: Params,
        hyperparams: Hyperparams,
        train_examples: Batch,
        valid_examples: Batch,
        key: Key,
    ) -> Estimate:
        key_train, key_valid, key_loss = jax.random.split(key, 3)
        i = jax.random.randint(key_train, (), 0, train_blocks)
        j = jax.random.randint(key_valid, (), 0, valid_blocks)
        made = tracking.estimate(
            parts.problem,
            inner,
            adjoint,
            hyperparams,
            _block(train_examples, "train_blocks", train_blocks, i),
            _block(valid_examples, "valid_blocks", valid_blocks, j),
            key_loss,
        )
        train, of_train = corrected(memory.train, i, made.train)
        valid, of_valid = corrected(memory.valid, j, made.valid)
        return made._replace(train=train, valid=valid, memory=SabaMemory(of_train, of_valid))

    made = tracking.tracked(parts, of_adjoint, estimate, memory, problem)
    return made._replace(whole_batches=True)


def _empty(terms: Any, blocks: int) -> Memory:
    zeros = optax.tree.zeros_like(terms)
    return Memory(jax.tree.map(lambda leaf: jnp.stack([leaf] * blocks), zeros), zeros)


def _block(examples: Batch, name: str, blocks: int, number: jax.Array) -> Batch:
    """One of equal blocks of consecutive examples."""
    count = jax.tree.leaves(examples)[0].shape[0]
    if count % blocks:
        raise ValueError(
            f"saba() needs {name} to divide the {count} examples into equal blocks, got {blocks}."
        )
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf).reshape(blocks, count // blocks, *leaf.shape[1:])[number],
        examples,
    )
