"""Signs that a run went wrong: losses that are not finite, and hyperparameters that stand still."""

import functools
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet.batches import Data, rows
from shohypernet.fitting._history import History
from shohypernet.fitting._run_directory import RunDirectory
from shohypernet.hyperoptimizer import Info
from shohypernet.sources import Stream
from shohypernet.types import Batch


class NonFiniteLoss(FloatingPointError):
    """A loss or λ̂ became NaN or infinite; the message says which, at which step and why."""


def lost_seeds(
    record: History,
    infos: Info | None,
    seeds: Sequence[int],
    data: Data,
    directory: RunDirectory | None,
    known: dict[int, str],
) -> dict[int, str]:
    """The seeds of which some loss or λ̂ isn't finite any more, each with its step and cause.

    Args:
      record: the evaluation after some steps.
      infos: of the steps, each of shape (S, steps); None at the start.
      seeds: of the run.
      data: of the run, which may be the cause.
      directory: of the run, whose newest checkpoint an error names.
      known: those that were lost before.

    Raises:
      NonFiniteLoss: once no seed is left, or at the start, naming the first step at which something
        is not finite, and what.
    """
    finite = _finite(record, infos)
    every = np.logical_and.reduce(list(finite.values()))
    for row, seed in enumerate(seeds):
        every[row] |= seed in known
    lost = dict(known)
    while not every.all():
        column = int(np.argmin(every.all(0)))
        step = int(record.step) + column + 1 - every.shape[1]
        bad = [seed for seed, good in zip(seeds, every[:, column], strict=True) if not good]
        new = [seed in bad for seed in seeds]
        names = [name for name, good in finite.items() if not good[new, column].all()]
        found = f"{_are_not_finite(names)} at step {step}"
        cause = _cause(names, step, data)
        lost |= dict.fromkeys(bad, f"{found}. {cause}")
        if infos is None or len(lost) == len(seeds):
            raise NonFiniteLoss(f"{found}, seeds {bad}. {_kept(directory)} {cause}")
        every[new] = True
    return lost


def _are_not_finite(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not finite"


def _kept(directory: RunDirectory | None) -> str:
    if directory and directory.latest_step is not None:
        return f"The checkpoint of step {directory.latest_step} is kept in {directory.path}."
    return "No checkpoint was kept."


def lost_before(records: Sequence[History], seeds: Sequence[int], data: Data) -> dict[int, str]:
    """Those that `lost_seeds` found in the records of a run that is resumed."""
    lost: dict[int, str] = {}
    for record in records[1:]:
        for row, seed in enumerate(seeds):
            bad = [name for name, good in _finite(record, None).items() if not good[row].all()]
            if bad and seed not in lost:
                step = int(record.step)
                lost[seed] = f"{_are_not_finite(bad)} by step {step}. {_cause(bad, step, data)}"
    return lost


def warn_of_lost(lost: dict[int, str]) -> None:
    """Warn of seeds that ended before the others."""
    if lost:
        each = "\n".join(f"seed {seed}: {message}" for seed, message in lost.items())
        warnings.warn(
            f"{len(lost)} of the seeds ended before the others, whose results are whole:\n{each}",
            RuntimeWarning,
            stacklevel=3,  # who called fit
        )


def say_if_many(hyperparams: Any, valid: Batch, folds: int = 1) -> None:
    """Say once that there are more hyperparameters than validation examples, in the log.

    Args:
      hyperparams: λ of all seeds, or their shapes.
      valid: the validation split.
      folds: of which every row has an example.
    """
    numbers = [
        leaf for leaf in jax.tree.leaves(hyperparams) if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    count = sum(int(np.prod(leaf.shape[1:])) for leaf in numbers)
    if not isinstance(valid, Stream) and count > folds * rows(valid):
        _say_once(count, folds * rows(valid))


@functools.cache
def _say_once(count: int, examples: int) -> None:
    logging.getLogger("shohypernet").warning(
        "fit() tunes %s hyperparameters on %s validation examples, which these may learn by heart: "
        "judge them by a third split, after training again (shn.report), and see shn.priors.",
        f"{count:,}",
        f"{examples:,}",
    )


def warn_of_rejected(rejected: np.ndarray, seeds: Sequence[int]) -> None:
    """Warn of estimates that a method left out, shape (S,), or a scalar where it never does."""
    counts = dict(zip(seeds, np.broadcast_to(rejected, len(seeds)).tolist(), strict=True))
    each = ", ".join(f"{count} of seed {seed}" for seed, count in counts.items() if count)
    if each:
        warnings.warn(
            f"estimates of the curvature weren't finite and were left out: {each}. The last good "
            "ones served. Look for an overflow: a large step size, or half precision.",
            RuntimeWarning,
            stacklevel=3,  # who called fit
        )


def _finite(record: History, infos: Info | None) -> dict[str, np.ndarray]:
    """Whether each loss and hyperparameter is finite, by name, shapes (S, steps)."""
    seeds, steps = len(record.valid_loss), 1 if infos is None else infos.train_loss.shape[1]
    found = {}
    if infos is not None:
        found["the training loss"] = np.isfinite(infos.train_loss)
        found["the validation loss of the step's batch"] = np.isfinite(infos.valid_loss)
    at_end = {
        "the validation loss on all training examples": record.valid_loss_on_train,
        "the validation loss on all validation examples": record.valid_loss,
    }
    if record.test_loss is not None:
        at_end["the validation loss on all test examples"] = record.test_loss
    for path, leaf in jax.tree.leaves_with_path(record.unconstrained):
        at_end[f"hyperparameter {jax.tree_util.keystr(path) or 'λ̂'}"] = leaf
    for name, leaf in at_end.items():
        found[name] = np.full((seeds, steps), True)
        found[name][:, -1] = np.isfinite(leaf).reshape(seeds, -1).all(1)
    return found


def _cause(names: Sequence[str], step: int, data: Data) -> str:
    if corrupted := not_finite(data):
        return corrupted
    of_hyperparams = any(name.startswith("hyperparameter") for name in names)
    if not step and of_hyperparams:
        return (
            "No step was taken yet, so the start itself is the cause: a function that makes it "
            "must return values strictly inside the range of the problem's space, in natural units."
        )
    if not step:
        return "No step was taken yet, so a loss itself, or its start, is the cause."
    if "the training loss" in names:
        return (
            "A step size too large for the weights (or the hypernet) or for the hyperparameters is "
            "the usual cause: try a smaller one, or optax.clip_by_global_norm."
        )
    if of_hyperparams:
        return (
            "The training loss is finite, so that the hypergradient or a step size too large for "
            "the hyperparameters is the usual cause: try a smaller one, or "
            "optax.clip_by_global_norm in hyper_optimizer."
        )
    return (
        "The training loss is finite: a validation loss that no penalty holds back, such as the "
        "logarithm of 0, or a step size too large, is the usual cause."
    )


def not_finite(data: Data) -> str:
    """A sentence on the data's arrays that hold NaN or infinite numbers; empty if none does."""
    names = [
        f"data.{jax.tree_util.keystr(path, simple=True, separator='.')}"
        for path, leaf in jax.tree.leaves_with_path(data)
        if not bool(jnp.all(jnp.isfinite(leaf)))
    ]
    hold = f"{', '.join(names)} holds NaN or infinite numbers; fix or leave out those rows."
    return hold if names else ""


def warn_if_still(history: History, seeds: Sequence[int], waiting: bool) -> None:
    """Warn of seeds whose λ̂ stood still, bit for bit, over the last half of the evaluations.

    Args:
      history: of the run.
      seeds: of the run.
      waiting: whether λ̂ was to stand still so far.
    """
    if waiting:
        return
    since = _still_since(history)
    intervals = len(history.hyperparams_step) - 1
    still = {
        seed: int(history.hyperparams_step[at])
        for seed, at in zip(seeds, since, strict=True)
        if at < intervals and 2 * at <= intervals
    }
    if not still:
        return
    each = ", ".join(f"{seed} since step {step}" for seed, step in still.items())
    norms = history.hypergradient_norm[-1][[seed in still for seed in seeds]]
    if np.all(norms == 0):
        cause = (
            "The hypergradient is exactly zero: weights that answer to no λ (a hypernet that reads "
            "none), training that starts at, or has reached, a point without slope (weights that "
            "are all zero, a loss that saturates), or an accumulation of gradients that is longer "
            "than the run."
        )
    else:
        cause = (
            "The hypergradient is not zero, so that the step size has become too small to change "
            "λ̂ (one of 0, as for a first phase; a schedule that ended at 0; hoag() with noisy "
            "gradients, or a tolerance that the inner steps don't reach)."
        )
    warnings.warn(
        f"the hyperparameters stood still, bit for bit, to the end of the run, of seeds {each}. "
        f"{cause}",
        RuntimeWarning,
        stacklevel=3,  # who called fit
    )


def _still_since(history: History) -> np.ndarray:
    """Index of the evaluation from which on λ̂ is the last one, shape (S,)."""
    evaluations, seeds = len(history.hyperparams_step), history.valid_loss.shape[1]
    differs = np.zeros((evaluations, seeds), bool)
    for leaf in jax.tree.leaves(history.unconstrained):
        rows = np.asarray(leaf).reshape(evaluations, seeds, -1)
        differs |= (rows != rows[-1:]).any(2)
    return np.where(differs.any(0), evaluations - np.argmax(differs[::-1], axis=0), 0)
