"""Words, claims and figure of `layer_fidelity`."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import _plots, _results

WHOLE, PER_LAYER = "whole", "one decay per layer"  # beside the names of layers
CONVERGED = 1e-2  # residual of a reference, at most
FACTOR = 1.5  # of a length
LABELS = {"tracked": "with products", "alone": "factors alone"}

Found = dict[str, dict[str, Any]]  # by network, what `layer_fidelity` writes in results.json


def means(found: dict[str, Any], what: str = "tracked") -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """[cosine, length], means over draws: of the whole, and of each layer."""
    layers = {name: np.mean(each, axis=0) for name, each in found[what].items()}
    del layers[PER_LAYER]
    return layers.pop(WHOLE), layers


def line(name: str, found: dict[str, Any]) -> str:
    """What was found for a network, in one line."""
    parts = []
    for what, label in LABELS.items():
        (cosine, length), layers = means(found, what)
        weakest = min(layers, key=lambda layer: layers[layer][0])
        parts.append(
            f"{label} {cosine:.2f}, length {length:.2f}, one decay per layer "
            f"{np.mean(found[what][PER_LAYER], axis=0)[0]:.2f}, weakest {weakest} "
            f"{layers[weakest][0]:.2f}, lengths {_range([each[1] for each in layers.values()])}"
        )
    residual = max(found["residual"])
    return f"{name:<16} cosine {'; '.join(parts)}; residual of the reference {residual:.1g}"


def claims(found: Found) -> list[dict[str, Any]]:
    """What the hypergradient with products was to reach, for each network that was measured."""
    made = []
    for name, each in found.items():
        converged = max(each["residual"]) <= CONVERGED
        (cosine, length), layers = means(each)
        cosines, lengths = np.array(list(layers.values())).T
        weakest = min(layers, key=lambda layer: layers[layer][0])
        whole = f"cosine {cosine:.2f}, length {length:.2f}"
        by_layer = f"cosines from {cosines.min():.2f} ({weakest}), lengths {_range(lengths)}"

        def claim(
            text: str,
            measured: str,
            holds: Any,
            converged: bool = converged,
            residual: float = max(each["residual"]),
        ) -> None:
            measured += f"; residual of the reference {residual:.1g} at most"
            made.append(_results.claim(text, measured, holds=holds if converged else None))

        if name.startswith("LeNet"):
            claim(f"{name}, one decay per weight: a cosine of 0.85 or more.", whole, cosine >= 0.85)
            cosine, length = np.mean(each["tracked"][PER_LAYER], axis=0)
            whole = f"cosine {cosine:.2f}, length {length:.2f}"
            claim(f"{name}, one decay per layer: a cosine of 0.85 or more.", whole, cosine >= 0.85)
        elif name.startswith("shared"):
            text = f"A layer {name}: its part of the hypergradient is as long within 10 %."
            part = layers["shared"]
            measured = f"cosine {part[0]:.2f}, length {part[1]:.2f}; {whole} as a whole"
            claim(text, measured, abs(part[1] - 1) <= 0.1)
        else:
            text = f"{name}: a cosine of 0.7 or more, a length within a factor of {FACTOR}"
            claim(f"{text}.", whole, cosine >= 0.7 and _near(length))
            claim(f"{text}, layer by layer.", by_layer, cosines.min() >= 0.7 and _near(lengths))
    return made


def _near(lengths: Any) -> bool:
    return bool(np.all((np.asarray(lengths) <= FACTOR) & (np.asarray(lengths) >= 1 / FACTOR)))


def _range(values: Any) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def draw(found: Found) -> Figure:
    """Cosines and lengths of each network: of the whole, and small ones of its layers."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 0.7 + 0.55 * len(found)), sharey=True)
    for i, (what, label) in enumerate(LABELS.items()):
        look = {"color": _plots.COLORS[i], "marker": "os"[i], "linestyle": ""}
        for row, each in enumerate(found.values()):
            whole, layers = means(each, what)
            height = row + 0.15 * (2 * i - 1)
            for axes, value, column in zip(panels, whole, (0, 1), strict=True):
                small = [layer[column] for layer in layers.values()]
                heights = [height] * len(small)
                axes.plot(small, heights, markersize=3, alpha=0.6, **look)
                axes.plot(value, height, markersize=8, label="" if row else label, **look)
    panels[0].set(xlabel="cosine to the converged hypergradient", xlim=(None, 1.02))
    panels[1].set(xlabel="length, 1 at best", xscale="log")
    panels[1].axvspan(1 / FACTOR, FACTOR, color="0.5", alpha=0.12)
    panels[1].axvline(1, color="0.4", linewidth=0.8)
    panels[0].set_yticks(range(len(found)), list(found))
    panels[0].invert_yaxis()
    _plots.legend_below(figure, panels[0], 2)
    return figure
