"""Picture of `best_response_error`: errors by number of hyperparameters, a panel for each width."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments import _plots

COLORS = dict(
    zip(
        ("paper", "none", "standardized", "learned bounds", "circular"),
        ("0.5", "#e3a72f", *_plots.COLORS[:3]),
        strict=True,
    )
)
LABELS = {"paper": "λ as it is, paper's start", "none": "λ − λ₀, model's start"}


def draw(errors: dict[str, list[float]], spread: list[float], config: Any) -> Figure:
    """Mean absolute errors, by the names of `contenders`, and the spread of trained models."""
    widths = config.widths
    size = (3.4 * len(widths) + 1, 4.4)
    figure, panels = plt.subplots(1, len(widths), figsize=size, sharey=True, squeeze=False)
    at = range(len(config.numbers))
    for panel, width in zip(panels[0], widths, strict=True):
        panel.semilogy(at, spread, ":", color="0.3", label="spread of trained models")
        for name in config.encodings:
            label, values = LABELS.get(name, name), errors[f"{name} {width}"]
            panel.semilogy(at, values, "o-", markersize=4, color=COLORS[name], label=label)
        panel.semilogy(at, errors["gated"], "k^--", markersize=4, label="gated, standardized")
        panel.set_xticks(at, [str(number) for number in config.numbers])
        panel.set(xlabel="hyperparameters", title=f"{width} hidden units")
    panels[0, 0].set_ylabel("mean error of the validation loss (nats)")
    _plots.legend_below(figure, panels[0, 0], columns=4)
    return figure
