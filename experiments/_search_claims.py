"""The claims of `search_baselines`."""

import itertools
from typing import Any

import numpy as np

from experiments import _results
from experiments._search_contenders import OURS, PAPER, Curve
from shohypernet.batches import SplitLosses

FIRST_PART = 0.1  # of the budget, from which the paper's claim is to hold


def _median(losses: np.ndarray) -> np.ndarray:
    """Over seeds, NaN until all have a loss."""
    return np.median(losses, axis=0)


def below_all(count: int, curves: dict[str, Curve]) -> dict[str, Any]:
    """The claim that hyper-training of so many decays soon leaves every search behind."""
    ours = curves[OURS]
    since = ours.evaluations >= FIRST_PART * ours.evaluations[-1]
    others = {
        name: np.interp(ours.evaluations, curve.evaluations, _median(curve.valid_loss))
        for name, curve in curves.items()
        if name not in (OURS, PAPER)
    }
    best = np.nanmin(list(others.values()), axis=0)
    below = _median(ours.valid_loss) < np.where(np.isnan(best), np.inf, best)
    ends = {name: losses[-1] for name, losses in others.items()}
    nearest = min(ends, key=lambda name: ends[name])
    test = {name: _median(curve.test_loss)[-1] for name, curve in curves.items()}
    lead = ours.evaluations[since][below[since]]
    return _results.claim(
        f"{count:,} decays: hyper-training's validation loss is below every black-box method's "
        f"from the first {FIRST_PART:.0%} of the budget on.",
        f"below all of them at {np.mean(below[since]):.0%} of the points since then"
        + (f", last at {lead[-1]:,} evaluations" if lead.size else "")
        + f"; it ends at {_median(ours.valid_loss)[-1]:.5f} (test {test[OURS]:.5f}), and "
        f"{nearest}, the best of the others, at {ends[nearest]:.5f} (test {test[nearest]:.5f})",
        holds=bool(below[since].all()),
    )


def excess_over_exact(curves: dict[int, dict[str, Curve]], optima: dict[int, SplitLosses]) -> Any:
    """Each method's final validation losses above the exact best: name -> count -> (seeds,)."""
    names = list(dict.fromkeys(itertools.chain(*curves.values())))
    return {
        name: {
            count: by_name[name].valid_loss[:, -1] - optima[count].valid
            for count, by_name in curves.items()
            if name in by_name
        }
        for name in names
    }


def many_decays(
    curves: dict[int, dict[str, Curve]], optima: dict[int, SplitLosses]
) -> dict[str, Any]:
    """The claim that searches win with few decays and hyper-training with many."""
    excess = {
        name: {count: float(np.median(values)) for count, values in by_count.items()}
        for name, by_count in excess_over_exact(curves, optima).items()
    }
    best = {
        count: min(
            (by_count[count], name)
            for name, by_count in excess.items()
            if name not in (OURS, PAPER) and count in by_count
        )
        for count in curves
    }
    wins = [count for count in curves if excess[OURS][count] < best[count][0]]
    return _results.claim(
        "Black-box search is competitive with few hyperparameters and not with many.",
        "median final validation loss above the exact best, hyper-training against the best "
        "search: "
        + "; ".join(
            f"{count:,} decays {excess[OURS][count]:.5f}, {name} {value:.5f}"
            for count, (value, name) in best.items()
        ),
        holds=bool(wins)
        and wins == [count for count in curves if count >= min(wins)]
        and min(wins) > min(curves),
    )
