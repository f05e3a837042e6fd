"""How every experiment writes down what it found: pictures, the arrays behind them, and claims."""

import pathlib
from typing import Any

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

# Dark to light, so that they stay apart in gray; line styles tell them apart as well.
COLORS = ("#0b3c5d", "#d1495b", "#2e8b57", "#e3a72f")
STYLES = ("-", "--", "-.", ":")

mpl.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 150,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "pdf.fonttype": 42,
    }
)


def save_figure(figure: Figure, workdir: pathlib.Path, name: str) -> None:
    """Writes a figure as NAME.png and NAME.pdf, and closes it."""
    for ending in ("png", "pdf"):
        figure.savefig(workdir / f"{name}.{ending}")
    plt.close(figure)


def save_arrays(workdir: pathlib.Path, name: str, arrays: dict[str, Any]) -> None:
    """Writes the arrays behind a figure as NAME.npz."""
    np.savez(workdir / f"{name}.npz", **jax.tree.map(np.asarray, arrays))


def claim(claim: str, measured: str, *, holds: bool) -> dict[str, Any]:
    """A claim of the paper, what was measured here, and whether it holds."""
    return {"claim": claim, "measured": measured, "holds": bool(holds)}
