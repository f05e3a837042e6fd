"""Figure 4 (top) of the paper: 7,850 decays tuned by hyper-training and by its rivals.

Every method tunes the same linear model from the same decay, with minibatches of the same sizes and
for the same number of gradient evaluations. Its two step sizes are chosen by the same search on
validation, of a quarter of that length, before. If the whole run then diverges, as λ may go where
the inner step size is too large, the next best pair is taken, and results.json says so.

python -m experiments.unrolled_comparison --config=configs/unrolled_comparison.py --workdir=DIR
"""

import itertools
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _results
from experiments._decay_problem import Reference
from experiments._unrolled_contenders import HYPERNET, UNROLLED, methods
from experiments._unrolled_step_sizes import Chosen, tune
from shohypernet import ridge

NAME = "unrolled_comparison"
MARKS = "osD^vP*Xh"


class Tuned(NamedTuple):
    """A contender's run.

    Attributes:
      chosen: its step sizes, and the result.
      exact: G of the best response to the final λ, one for each seed: the quality of the decays,
        whatever the method's own weights.
    """

    chosen: Chosen
    exact: np.ndarray

    @property
    def history(self) -> shn.History:
        """That of the run."""
        return self.chosen.result.history


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Search step sizes, tune with every method, and draw the losses against their cost."""
    data = _decay_problem.load_data(config)
    problem = _decay_problem.problem_on(data)
    reference, exact = _decay_problem.reference(data), ridge.ridge(data)
    start = _decay_problem.decays(problem, config.start, "weight")
    tuned: dict[str, Tuned] = {}
    for name, method in methods(problem, config).items():
        folder = workdir / name.replace(", ", "_").replace(" ", "_")
        chosen = tune(problem, method, data, start, config, folder, resume=resume)
        gains = _exact_gain(chosen.result, reference, exact, len(config.seeds))
        tuned[name] = Tuned(chosen, gains)
        gain = reference.gain(chosen.result.history.valid_loss[-1])
        print(
            f"{name:<24} step sizes {chosen.inner_rate:g}, {chosen.hyper_rate:g}  "
            f"{chosen.result.history.seconds[-1]:6.1f} s  G {np.mean(gain):6.2f}  "
            f"G of its decays {np.mean(gains):6.2f}",
            flush=True,
        )

    _plots.save_figure(_draw(tuned, reference), workdir, NAME)
    _results.save_arrays(workdir, NAME, _arrays(tuned, reference))
    return {
        "main": {name: one.history.valid_loss[-1].tolist() for name, one in tuned.items()},
        "claims": [_claim_faster(tuned), _claim_overfits_less(tuned)],
        "order": f"{config.data}, {config.train_examples:,} + {config.valid_examples:,} examples",
        "best_scalar": reference.scalar_losses._asdict(),
        "exact_path": reference.path[-1]._asdict(),
        "methods": {name: _summary(one, reference) for name, one in tuned.items()},
    }


def _exact_gain(
    result: shn.Result, reference: Reference, exact: ridge.Ridge, seeds: int
) -> np.ndarray:
    def gain(seed: int) -> float:
        log_decay = jax.tree.map(lambda leaf: np.float64(leaf[seed]), result.unconstrained)
        return reference.gain(_decay_problem.retrained(exact, log_decay).valid)

    return np.array([gain(seed) for seed in range(seeds)])


def _summary(one: Tuned, reference: Reference) -> dict[str, Any]:
    history = one.history
    return {
        "inner_step_size": one.chosen.inner_rate,
        "hyper_step_size": one.chosen.hyper_rate,
        "better_pairs_that_diverged_later": one.chosen.diverged,
        "seconds": float(history.seconds[-1]),
        "gradient_evaluations": int(history.gradient_evaluations[-1].mean()),
        "valid_loss": history.valid_loss[-1].tolist(),
        "test_loss": history.test_loss[-1].tolist(),
        "attainable_gain": reference.gain(history.valid_loss[-1]).tolist(),
        "attainable_gain_of_decays": one.exact.tolist(),
    }


def _claim_faster(tuned: dict[str, Tuned]) -> dict[str, Any]:
    """Validation losses of both after a tenth of unrolling's time."""
    hypernet, rival = (tuned[name].history for name in (HYPERNET, UNROLLED))
    early = rival.seconds[-1] / 10
    losses = [
        float(np.interp(early, history.seconds, history.valid_loss.mean(1)))
        for history in (hypernet, rival)
    ]
    return _results.claim(
        "Hyper-training is faster than unrolling at first.",
        f"after {early:.1f} s the validation losses are {losses[0]:.5f} and {losses[1]:.5f}",
        holds=losses[0] < losses[1],
    )


def _claim_overfits_less(tuned: dict[str, Tuned]) -> dict[str, Any]:
    """Final test loss above validation loss, on the same images for both."""
    gaps = []
    for name in (HYPERNET, UNROLLED):
        history = tuned[name].history
        gaps.append(float((history.test_loss - history.valid_loss)[-1].mean()))
    return _results.claim(
        "Hyper-training overfits the validation data less than unrolling.",
        f"at the end the test loss is above the validation loss by {gaps[0]:.5f} and {gaps[1]:.5f}",
        holds=gaps[0] < gaps[1],
    )


def _arrays(tuned: dict[str, Tuned], reference: Reference) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "scalar": np.array(reference.scalar_losses),
        "exact_path": np.array(reference.path),
    }
    for name, one in tuned.items():
        arrays |= _results.history_arrays(name, one.history)
    return arrays


def _draw(tuned: dict[str, Tuned], reference: Reference) -> Figure:
    styles = itertools.product(_plots.STYLES, _plots.COLORS)
    looks = {
        name: {"color": color, "linestyle": style, "marker": mark}
        for name, (style, color), mark in zip(tuned, styles, MARKS, strict=False)
    }
    figure, axes = _plots.cost_panels({name: one.history for name, one in tuned.items()}, looks)
    lines = {
        "best single decay": (reference.scalar_losses, ":"),
        "exact path, 30 steps": (reference.path[-1], "--"),
    }
    _plots.reference_lines(axes, lines)
    shown = {
        split: [
            *(getattr(one.history, f"{split}_loss")[-1].mean() for one in tuned.values()),
            *(getattr(losses, split) for losses, _ in lines.values()),
        ]
        for split in _plots.SPLITS
    }
    _plots.frame(axes, shown, above=0.2)
    _plots.legend_below(figure, axes[0, 0], columns=5)
    return figure


if __name__ == "__main__":
    _launch.main(run)
