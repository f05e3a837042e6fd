"""Pictures of runs and searches, with matplotlib (`pip install 'shohypernet[plots]'`).

Each function returns a `matplotlib.figure.Figure`, to be shown, changed or saved:

    shn.plots.hyperparams(result).savefig("hyperparams.png")
"""

import functools
from typing import Any

import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet._internal.trees import by_path
from shohypernet.fitting import History, Result
from shohypernet.response import Curve
from shohypernet.search import SearchResult, best_so_far

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


def response(curve: Curve) -> Any:
    """Losses predicted at other hyperparameters, and where the run ended.

    Along one axis a line for each split; along two the validation loss as a map.

    Args:
      curve: of `response.slice`, or of `response.curve` along one number.

    Raises:
      ValueError: for a curve of several hyperparameters, which has no axis.
    """
    validation.require(
        bool(curve.axes),
        "plots.response() draws a slice along one or two hyperparameters, or a curve of one; a "
        "curve of several has no axis: see its losses.",
    )
    figure, (axes,) = _panels(1, size=(6.4, 4.0))
    (name, values), *second = curve.axes.items()
    tuned = list(curve.tuned.values())
    _name_axis(axes.xaxis, axes.set_xscale, name, values)
    if second:
        _name_axis(axes.yaxis, axes.set_yscale, *second[0])
        drawn = axes.contourf(values, second[0][1], curve.losses.valid.T, levels=20)
        figure.colorbar(drawn, label="predicted validation loss")
        axes.plot(*tuned, "o", color=RED, label="where the run ended")
    else:
        for name, color in (("train", GRAY), ("valid", BLUE), ("test", RED)):
            if getattr(curve.losses, name) is not None:
                axes.plot(values, getattr(curve.losses, name), label=name, color=color)
        axes.axvline(tuned[0], color="0.3", linestyle=":", label="where the run ended")
        axes.set_ylabel("predicted loss")
    axes.legend()
    return figure


def _name_axis(axis: Any, set_scale: Any, name: str, values: np.ndarray) -> None:
    axis.set_label_text(name or "λ")
    even = np.allclose(np.diff(values), np.diff(values)[:1])
    if min(values) > 0 and max(values) > 10 * min(values) and not even:
        set_scale("log")


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

    By PED-ANOVA (Watanabe et al., 2023, arXiv:2304.10255), of Optuna; of a conditional one among
    the trials where it was active, by the share of those (arXiv:2601.20800).

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
    columns, unseen = {}, {}
    active = by_path(np.asarray, hp.active(result.space, measured.unconstrained))
    for name, leaf in by_path(np.asarray, measured.unconstrained).items():
        leaf = np.where(active[name], leaf.astype(float), np.nan)
        for i, column in enumerate(leaf.reshape(len(leaf), -1)[keep].T):
            several = leaf.size > len(leaf)
            known = columns if np.isfinite(column).any() else unseen
            known[f"{name or 'λ'}[{i}]" if several else name or "λ"] = column
    study = optuna.create_study()
    ranges: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(np.nanmin(column), np.nanmax(column))
        for name, column in columns.items()
    }
    for i, loss in enumerate(measured.valid_loss[keep]):
        params = {name: column[i] for name, column in columns.items() if np.isfinite(column[i])}
        within = {name: ranges[name] for name in params}
        trial = optuna.trial.create_trial(params=params, distributions=within, value=float(loss))
        study.add_trial(trial)
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(found) | dict.fromkeys(unseen, 0.0)


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
