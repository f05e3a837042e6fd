"""The picture of `self_tuning`: paths of the hyperparameters, and test results."""

from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import shohypernet as shn
from experiments._augmented_lenet import Outcome

GROUPS = {
    "Images: strengths": ("translate", "rotate", "scale", "contrast", "input_noise", "cutout"),
    "Dropout and label smoothing": ("dropout", "label_smoothing"),
    "Weight decays": ("weight_decay",),
}


def draw(history: shn.History, outcomes: dict[str, Outcome]) -> Figure:
    """Paths of the hyperparameters, and the networks that were trained again.

    Args:
      history: of the run, with a seed axis.
      outcomes: by recipe, leaves (seeds,).
    """
    figure, axes = plt.subplots(2, 3, figsize=(13, 9))
    paths: Any = axes.flat
    for panel, (title, names) in zip(paths, GROUPS.items(), strict=False):
        _draw_paths(panel, history, names)
        panel.set(title=title, yscale="log", xlabel="rounds")
    axes[0, 0].set_ylabel("value (line: mean of seeds, band: range)")
    for panel, field, label in (
        (axes[1, 0], "loss", "test loss (cross-entropy)"),
        (axes[1, 1], "error", "test error (%)"),
    ):
        values = {name: getattr(each, field) for name, each in outcomes.items()}
        scale = 100 if field == "error" else 1
        _draw_outcomes(panel, {name: scale * each for name, each in values.items()})
        panel.set(ylabel=label, title="Trained again on all images\n(dots: seeds, bar: mean)")
    last = axes[1, 2]
    for split in ("valid_loss_on_train", "valid_loss", "test_loss"):
        losses = getattr(history, split)[1:]
        last.plot(history.step[1:], losses.mean(1), label=split.replace("_", " "))
    last.set(yscale="log", xlabel="rounds", title="Losses of the run", ylabel="cross-entropy")
    last.legend()
    return figure


def _draw_paths(axes: Axes, history: shn.History, names: tuple[str, ...]) -> None:
    for name in (each for each in names if each in history.hyperparams):
        for path, values in jax.tree.leaves_with_path({name: history.hyperparams[name]}):
            label = jax.tree_util.keystr(path, simple=True, separator=" ")
            values = np.asarray(values)
            (line,) = axes.plot(history.step, values.mean(1), label=label)
            low, high = values.min(1), values.max(1)
            axes.fill_between(history.step, low, high, alpha=0.15, color=line.get_color())
    if axes.lines:
        axes.legend(fontsize=8)


def _draw_outcomes(axes: Axes, outcomes: dict[str, np.ndarray]) -> None:
    for i, values in enumerate(outcomes.values()):
        axes.plot(np.full(len(values), i), values, "o", color=f"C{i}", alpha=0.6)
        axes.hlines(values.mean(), i - 0.25, i + 0.25, color=f"C{i}", linewidth=2.5)
    axes.set_xticks(range(len(outcomes)), outcomes, rotation=25, ha="right")
