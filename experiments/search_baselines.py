"""The appendix figure of the paper: hyper-training beside black-box searches, at equal compute.

    L_train(w, λ) = MSE(train, w) + (1/10) Σ_i exp(λ_g(i)) w_i²,   g: weight -> its decay's number

python -m experiments.search_baselines --config=configs/search_baselines.py --workdir=DIR
"""

import pathlib
import time
from typing import Any

import numpy as np

from experiments import (
    _decay_problem,
    _launch,
    _plots,
    _results,
    _search_claims,
    _search_plot,
)
from experiments._grouped_decays import EVERY_WEIGHT, descended, grouping, optimum, problem_on
from experiments._search_contenders import OURS, Curve, methods
from shohypernet import ridge
from shohypernet.batches import Data, SplitLosses

NAME = "search_baselines"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Run every method on every number of decays, and draw two figures."""
    del resume  # what was finished is found in the folder
    data = _decay_problem.load_data(config)
    exact = ridge.ridge(data)
    scalar = optimum(exact, grouping(1))
    curves: dict[int, dict[str, Curve]] = {}
    optima: dict[int, SplitLosses] = {}
    # Those of the paper first.
    for count in dict.fromkeys((*config.main_decays, *config.other_decays)):
        every = count == EVERY_WEIGHT
        optima[count] = descended(exact) if every else optimum(exact, grouping(count))
        curves[count] = _curves(data, count, config, workdir)

    main = list(config.main_decays)
    curves = dict(sorted(curves.items()))
    by_decays = _search_plot.draw_by_count(curves, optima)
    _plots.save_figure(_search_plot.draw(main, curves, optima, scalar), workdir, NAME)
    _plots.save_figure(by_decays, workdir, f"{NAME}_by_decays")
    return {
        "main": {
            f"{count:,} decays, {name}": float(np.median(curves[count][name].valid_loss[:, -1]))
            for count in main
            for name in (OURS, "random search")
        },
        "claims": [
            *(_search_claims.below_all(count, curves[count]) for count in main),
            _search_claims.many_decays(curves, optima),
        ],
        "best_scalar": scalar._asdict(),
        "exact": {str(count): losses._asdict() for count, losses in optima.items()},
        "final": {
            str(count): {name: _final(curve) for name, curve in by_name.items()}
            for count, by_name in curves.items()
        },
    }


def _curves(data: Data, count: int, config: Any, workdir: pathlib.Path) -> dict[str, Curve]:
    """Every method's curve for a number of decays, kept in a file when it is finished."""
    problem = problem_on(data, grouping(count), config.low, config.high)
    curves = {}
    for name, method in methods(problem, data, count, config).items():
        saved = workdir / f"{count}_{name.replace(' ', '_')}.npz"
        if not saved.exists():
            began = time.perf_counter()
            curve = method()
            _results.save_arrays(workdir, saved.stem, curve._asdict())
            took = time.perf_counter() - began
            best = np.median(curve.valid_loss[:, -1])
            print(f"{count} decays, {name}: {best:.5f} in {took:.0f} s.", flush=True)
        with np.load(saved) as arrays:
            curves[name] = Curve(**arrays)
    return curves


def _final(curve: Curve) -> dict[str, Any]:
    """Quartiles of the final losses over the seeds."""
    return {
        split: np.nanpercentile(losses[:, -1], (25, 50, 75)).tolist()
        for split, losses in (("valid", curve.valid_loss), ("test", curve.test_loss))
    } | {"seconds": float(curve.seconds[-1])}


if __name__ == "__main__":
    _launch.main(run)
