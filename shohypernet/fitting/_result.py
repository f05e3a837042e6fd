"""Outcome of a run."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from shohypernet import hyperparameters as hp
from shohypernet import saving
from shohypernet.batches import SplitLosses
from shohypernet.fitting import _history as histories
from shohypernet.fitting._history import History
from shohypernet.types import Hyperparams, ModelState, Params


@saving.known
class Best(NamedTuple):
    """Weights and λ̂ of the evaluation with the least validation loss so far.

    Attributes:
      step: steps done by then.
      losses: `SplitLosses` there.
      hyperparams: λ̂, unconstrained; in natural units in a `Result`.
      params: the method's weights at λ̂.
      model_state: the model's.
    """

    step: Any
    losses: SplitLosses
    hyperparams: Hyperparams
    params: Params
    model_state: ModelState


@saving.known
class Result(NamedTuple):
    """Outcome of `fit`.

    With several seeds all arrays lead with the seed axis, those of the history after the axis of
    evaluations; with `seeds` a single number there is none.

    Attributes:
      hyperparams: the final λ̂, in natural units.
      unconstrained: likewise, as methods move it.
      params: the method's weights at λ̂.
      model_state: the model's state that goes with them, `()` if there is none.
      best: what validated best at any evaluation, of each seed: weights and λ̂ together.
      state: the method's whole state; None in a result that was loaded from a file.
      history: metrics of the run.
      compile_seconds: time spent in compiling, in s, which `history.seconds` leaves out.
      seeds: as given, a number or a tuple.
      lost: seeds that ended before the others, as a loss or λ̂ became NaN or infinite, each with the
        step and the cause. What is theirs from there on means nothing.
    """

    hyperparams: Hyperparams
    unconstrained: Hyperparams
    params: Params
    model_state: ModelState
    best: Best
    state: Any
    history: History
    compile_seconds: float
    seeds: int | tuple[int, ...]
    lost: dict[int, str]

    def seed(self, index: int) -> "Result":
        """The result of one seed, without the seed axis.

        Args:
          index: position among `seeds`, not the seed itself; that of a single number is 0.

        Raises:
          IndexError: if there are fewer seeds.
        """
        several = isinstance(self.seeds, tuple)
        seeds: Sequence[int] = self.seeds if several else (self.seeds,)  # pyright: ignore
        if not -len(seeds) <= index < len(seeds):
            raise IndexError(f"seed({index}) is none of {len(seeds)} seeds, by position: {seeds}.")
        if not several:
            return self
        index %= len(seeds)
        history = histories.of_seed(self.history, index)
        alone = {"history": None, "compile_seconds": None, "seeds": None, "lost": None}
        chosen = _at(self._replace(**alone), index)
        lost = {seed: cause for seed, cause in self.lost.items() if seed == seeds[index]}
        return chosen._replace(
            history=history, compile_seconds=self.compile_seconds, seeds=seeds[index], lost=lost
        )

    def describe(self) -> str:
        """A few lines for people: λ̂ in natural units, losses and cost, seed by seed."""
        many = self.seeds if isinstance(self.seeds, tuple) else (self.seeds,)
        lines = []
        for index, seed in enumerate(many):
            one = self.seed(index)
            last: History = jax.tree.map(lambda leaf: leaf[-1], one.history)
            lines.append(
                f"seed {seed}, after {int(last.step):,} steps, "
                f"{int(last.gradient_evaluations):,} gradient evaluations and "
                f"{float(last.seconds):,.1f} s:\n"
                f"  loss {last.valid_loss:.4g} on validation, {_on_test(last.test_loss)}"
                f"{last.valid_loss_on_train:.4g} on training examples\n"
                f"{indented(hp.describe(hp.UNCONSTRAINED, one.hyperparams))}"
                + "".join(f"\n  lost: {cause}" for cause in one.lost.values())
            )
        return "\n".join(lines)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write all but the method's state to a file; see `save`."""
        saving.save(path, self._replace(state=None), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Result":
        """Read a result that was saved.

        Raises:
          ValueError: if the file holds something else.
        """
        return saving.load(path, kind=cls)

    def __repr__(self) -> str:
        """Shapes and the last losses, no arrays."""
        losses = self.history.valid_loss, self.history.test_loss
        valid, test = map(histories.last_as_text, losses)
        shapes = {
            name: jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", getattr(self, name))
            for name in ("hyperparams", "params")
        }
        each = ", ".join(f"{name}={_short(tree)}" for name, tree in shapes.items())
        return (
            f"Result(seeds={self.seeds}, steps={int(self.history.step[-1])}, valid_loss={valid}, "
            f"test_loss={test}, {each})"
        )


def indented(hyperparams: str) -> str:
    """A description of hyperparameters for a report, below its own line if it takes several."""
    above = "\n    " if "\n" in hyperparams else " "
    return "  hyperparameters" + above + hyperparams.replace("\n", "\n    ")


def _on_test(loss: Any) -> str:
    return "" if loss is None else f"{loss:.4g} on test, "


def _short(tree: Any, most: int = 200) -> str:
    text = str(tree)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _at(tree: Any, index: int) -> Any:
    """A row of every leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    on_device = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    rows = iter(_rows(on_device, index))
    chosen = [next(rows) if isinstance(leaf, jax.Array) else leaf[index] for leaf in leaves]
    return jax.tree.unflatten(treedef, chosen)


@jax.jit
def _rows(leaves: list[jax.Array], index: Any) -> list[jax.Array]:
    # All in one program, which is compiled once for a kind of result.
    return [leaf[index] for leaf in leaves]
