"""Pictures of runs and searches, with matplotlib (`pip install 'shohypernet[plots]'`).

Each function returns a `matplotlib.figure.Figure`, to be shown, changed or saved:

    shn.plots.hyperparams(result).savefig("hyperparams.png")
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet._internal.trees import by_path
from shohypernet.batches import Data
from shohypernet.fitting import History, Result
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem
from shohypernet.search import SearchResult, best_so_far
from shohypernet.types import Hyperparams

MOST_PANELS = 24
# Dark to light, so that they stay apart in gray.
BLUE, RED, GREEN, GRAY = "#0b3c5d", "#d1495b", "#2e8b57", "0.55"


def losses(result: Result) -> Any:
    """Losses on all examples of each split over the steps, and where the validation loss was best.

    Args:
      result: of `fit`. Of several seeds the mean is drawn, with a band from least to greatest.
    """
    figure, (axes,) = _panels(1, size=(6.4, 4.0))
    history = result.history
    names = {"train": "valid_loss_on_train", "validation": "valid_loss", "test": "test_loss"}
    # The loss of fresh weights is far above all others, and no step of this run made it.
    shown = slice(1, None) if len(history.step) > 2 else slice(None)
    for (label, name), color in zip(names.items(), (GRAY, BLUE, RED), strict=True):
        if getattr(history, name) is not None:
            values = _by_seed(getattr(history, name), result)[shown]
            _line_and_band(axes, history.step[shown], values, label, color)
    for step, loss in zip(
        np.ravel(result.best.step), np.ravel(result.best.losses.valid), strict=True
    ):
        if step >= history.step[shown][0]:
            axes.plot(step, loss, "o", color=BLUE, markersize=5, fillstyle="none")
    axes.set_xlabel("steps (circles: best on validation)")
    axes.set_ylabel("loss")
    axes.legend()
    return figure


def hyperparams(result: Result) -> Any:
    """Hyperparameters over the steps, a panel for each array of them, such as one for each layer.

    Of many numbers the median is drawn, with the middle 90 % and all of them behind it.

    Args:
      result: of `fit`, of one seed.

    Raises:
      ValueError: for a result of several seeds, or more than 24 arrays.
    """
    if isinstance(result.seeds, tuple):
        raise ValueError(f"plots.hyperparams() draws one seed of {result.seeds}: result.seed(i).")
    history: History = result.history
    leaves = by_path(np.asarray, history.hyperparams)
    validation.require(
        len(leaves) <= MOST_PANELS,
        f"plots.hyperparams() draws {MOST_PANELS} arrays at most, got {len(leaves)}; choose some: "
        "result._replace(history=history._replace(hyperparams=...)).",
    )
    figure, panels = _panels(len(leaves))
    for axes, (name, values) in zip(panels, leaves.items(), strict=True):
        rows = values.reshape(len(values), -1)
        steps = history.hyperparams_step
        low, middle, high = np.quantile(rows, [0.05, 0.5, 0.95], axis=1)
        if rows.shape[1] > 1:
            axes.fill_between(steps, rows.min(1), rows.max(1), color=BLUE, alpha=0.08, linewidth=0)
            axes.fill_between(steps, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(steps, middle, color=BLUE)
        if rows.min() > 0 and rows.max() > 10 * rows.min():
            axes.set_yscale("log")
        count = f" ({rows.shape[1]:,})" if rows.shape[1] > 1 else ""
        axes.set_title(f"{name or 'λ'}{count}", fontsize=9)
        axes.set_xlabel("steps")
    return figure


def response(
    problem: Problem,
    method: HyperOptimizer,
    result: Result,
    data: Data,
    change: Callable[[Hyperparams, float], Hyperparams],
    values: Sequence[float],
    *,
    label: str = "hyperparameter",
) -> Any:
    """Losses that a hypernet predicts for other hyperparameters, at w_φ(λ), without any training.

    It is to be trusted as far as λ was sampled about λ̂.

    Args:
      problem: of the run.
      method: of the run, with a hypernet, such as `local_response`.
      result: of the run, of one seed, with its state.
      data: the three splits.
      change: `change(hyperparams, value) -> hyperparams`, in natural units, such as
        `lambda λ, x: λ | {"dropout": x}`.
      values: numbers for `change`, on the horizontal axis.
      label: of that axis.

    Raises:
      ValueError: for a result of several seeds, or without a state.
    """
    if isinstance(result.seeds, tuple) or result.state is None:
        raise ValueError(
            "plots.response() needs the result of one seed with its state: result.seed(i) of a "
            "run, not of a file."
        )
    tuned = jax.tree.map(jnp.asarray, result.hyperparams)

    @jax.jit
    def at(changed: Hyperparams) -> Any:
        state = result.state._replace(hyperparams=changed)
        natural = hp.decode(problem.space, changed)
        weights = method.weights(state), method.model_state(state)
        own = problem._replace(space=hp.UNCONSTRAINED, metrics=None)
        return inner_loop.evaluate(own, *weights, natural, data).losses

    found = [at(hp.encode(problem.space, change(tuned, value))) for value in values]
    figure, (axes,) = _panels(1, size=(6.4, 4.0))
    for name, color in (("train", GRAY), ("valid", BLUE), ("test", RED)):
        if getattr(found[0], name) is not None:
            axes.plot(values, [getattr(each, name) for each in found], label=name, color=color)
    axes.set_xlabel(label)
    axes.set_ylabel("predicted loss")
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    axes.legend()
    return figure


def search(result: SearchResult) -> Any:
    """Validation loss of each trial of a search, and the best so far, by what it had cost.

    Args:
      result: of `search.run`.
    """
    figure, (axes,) = _panels(1, size=(6.4, 4.0))
    measured = result.measured if isinstance(result.measured, list) else [result.measured]
    for i, each in enumerate(measured):
        label = "trials" if not i else None
        axes.plot(
            each.gradient_evaluations, each.valid_loss, ".", color=GRAY, markersize=4, label=label
        )
    for i, each in enumerate(measured):
        best = best_so_far(each)[0]
        label = "best so far" if not i else None
        axes.step(each.gradient_evaluations, best, where="post", color=BLUE, label=label)
    finite = np.concatenate([each.valid_loss[np.isfinite(each.valid_loss)] for each in measured])
    if finite.min() > 0 and finite.max() > 10 * finite.min():
        axes.set_yscale("log")
    axes.set_xlabel("gradient evaluations")
    axes.set_ylabel("validation loss")
    axes.legend()
    return figure


def importance(result: SearchResult) -> Any:
    """Share of the differences between good and other trials that each hyperparameter tells.

    By PED-ANOVA (Watanabe et al., 2023, arXiv:2304.10255), of Optuna.

    Args:
      result: of `search.run`, of one seed; array-valued hyperparameters count number by number.

    Raises:
      ValueError: for a result of several seeds.
    """
    if isinstance(result.seeds, tuple):
        raise ValueError(f"plots.importance() draws one seed of {result.seeds}: result.seed(i).")
    found = importances(result)
    figure, (axes,) = _panels(1, size=(6.4, 0.8 + 0.35 * len(found)))
    names = list(found)[::-1]
    axes.barh(names, [found[name] for name in names], color=BLUE)
    axes.set_xlabel("importance (sums to 1)")
    axes.grid(axis="y", visible=False)
    return figure


def importances(result: SearchResult) -> dict[str, float]:
    """The numbers of `importance`, the greatest first."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    measured = result.measured
    keep = np.isfinite(measured.valid_loss)
    columns = {}
    for name, leaf in by_path(np.asarray, measured.unconstrained).items():
        for i, column in enumerate(leaf.reshape(len(leaf), -1)[keep].T):
            several = leaf.size > len(leaf)
            columns[f"{name or 'λ'}[{i}]" if several else name or "λ"] = column.astype(float)
    study = optuna.create_study()
    ranges: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(column.min(), column.max())
        for name, column in columns.items()
    }
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: column[i] for name, column in columns.items()},
                distributions=ranges,
                value=float(loss),
            )
            for i, loss in enumerate(measured.valid_loss[keep])
        ]
    )
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(found)


def _by_seed(values: np.ndarray, result: Result) -> np.ndarray:
    """Losses of shape (E, S)."""
    return values if isinstance(result.seeds, tuple) else values[:, None]


def _line_and_band(axes: Any, at: np.ndarray, values: np.ndarray, label: str, color: str) -> None:
    axes.plot(at, np.nanmean(values, 1), label=label, color=color)
    if values.shape[1] > 1:
        low, high = np.nanmin(values, 1), np.nanmax(values, 1)
        axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)


def _panels(count: int, size: tuple[float, float] | None = None) -> tuple[Any, list[Any]]:
    """A figure of some panels, four in a row."""
    columns = min(count, 4)
    rows = -(-count // columns)
    size = size or (3.2 * columns, 2.4 * rows)
    figure, axes = _pyplot().subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", dpi=150
    )
    panels = list(axes.flat)
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.spines[["right", "top"]].set_visible(False)
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


@functools.cache
def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("shn.plots draws with matplotlib: pip install matplotlib.") from error
    return plt
