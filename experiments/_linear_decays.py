"""Hyper-training of the linear model's decays, beside exact results (paper, section 4.3).

With one decay for each of 7,850 weights it is the paper's large problem, and with one for each
class its medium one. L_valid of the method's own weights tells how well they are fitted and tuned
together; that of the exact best response to its λ̂, how well λ̂ is tuned.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _hyper_training, _plots, _results
from experiments._decay_problem import Reference
from shohypernet import ridge

PAPER3, PAPER4, TUNED = "Algorithm 3, paper", "Algorithm 4, paper", "Algorithm 3, tuned"


class Tuned(NamedTuple):
    """One method's run.

    Attributes:
      history: of `fit`, for all seeds.
      retrained: validation and test loss of the best response to λ̂ at each evaluation of the first
        seed, shape (evaluations, 2).
      retrained_end: the same at the end, for each seed, shape (seeds, 2).
    """

    history: shn.History
    retrained: np.ndarray
    retrained_end: np.ndarray


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune with every method, and draw validation and test loss against time and compute."""
    name = config.name
    data = _decay_problem.load_data(config)
    problem = _decay_problem.problem_on(data)
    reference, exact = _decay_problem.reference(data), ridge.ridge(data)
    start = _decay_problem.decays(problem, config.start, config.per)
    methods = {
        PAPER3: (_hyper_training.paper(problem, config.paper), config.paper),
        PAPER4: (_hyper_training.paper(problem, config.paper, simultaneous=True), config.paper),
        TUNED: (_hyper_training.tuned(problem, config.tuned), config.tuned),
    }
    found = {}
    for label, (method, settings) in methods.items():
        print(f"{label}: {settings.rounds} rounds, seeds {config.seeds}.", flush=True)
        folder = workdir / label.replace(",", "").replace(" ", "_").lower()
        result = _hyper_training.fit(
            problem,
            method,
            data,
            start,
            settings,
            folder,
            seeds=config.seeds,
            evaluations=config.evaluations,
            resume=resume,
        )
        found[label] = Tuned(result.history, *_retrained(exact, result.history))

    _plots.save_figure(_draw(config, found, reference), workdir, name)
    _results.save_arrays(workdir, name, _arrays(found, reference))
    return {
        "main": {
            f"{split}, {label.rpartition(' ')[2]}": getattr(tuned.history, f"{split}_loss")[
                -1
            ].tolist()
            for label, tuned in found.items()
            for split in _plots.SPLITS
        },
        "claims": _claims(config, found, reference),
        "order": _decay_problem.described(config),
        "best_scalar": {"log_decay": reference.scalar, **reference.scalar_losses._asdict()},
        "best_classes": reference.classes_losses._asdict(),
        "exact_path": reference.path[-1]._asdict(),
        "methods": {label: _summary(tuned, reference) for label, tuned in found.items()},
    }


def _retrained(exact: ridge.Ridge, history: shn.History) -> tuple[np.ndarray, np.ndarray]:
    def losses(evaluation: int, seed: int) -> list[float]:
        log_decay = jax.tree.map(lambda leaf: leaf[evaluation, seed], history.unconstrained)
        made = _decay_problem.retrained(exact, log_decay)
        return [made.valid, made.test]

    evaluations, seeds = history.valid_loss.shape
    return (
        np.array([losses(evaluation, 0) for evaluation in range(evaluations)]),
        np.array([losses(-1, seed) for seed in range(seeds)]),
    )


def _summary(tuned: Tuned, reference: Reference) -> dict[str, Any]:
    history = tuned.history
    valid, test = history.valid_loss[-1], history.test_loss[-1]
    return {
        "rounds": int(history.step[-1]),
        "gradient_evaluations": history.gradient_evaluations[-1].tolist(),
        "seconds_all_seeds": float(history.seconds[-1]),
        "valid_loss": valid.tolist(),
        "test_loss": test.tolist(),
        "valid_loss_mean": float(valid.mean()),
        "test_loss_mean": float(test.mean()),
        "attainable_gain": reference.gain(valid).tolist(),
        "retrained_valid_loss": tuned.retrained_end[:, 0].tolist(),
        "retrained_test_loss": tuned.retrained_end[:, 1].tolist(),
        "retrained_attainable_gain": reference.gain(tuned.retrained_end[:, 0]).tolist(),
    }


def _claims(config: Any, found: dict[str, Tuned], reference: Reference) -> list[dict[str, Any]]:
    targets = {PAPER3: config.paper.target, TUNED: config.tuned.target}
    return [_claim(label, found[label], target, reference) for label, target in targets.items()]


def _claim(
    label: str, tuned: Tuned, target: tuple[float, ...], reference: Reference
) -> dict[str, Any]:
    """The claim that a method reaches its target.

    Args:
      label: its name.
      tuned: its run.
      target: validation and test loss; or one number, validation loss in units of that of the best
        ten decays.
      reference: exact results.
    """
    valid, test = tuned.history.valid_loss[-1], tuned.history.test_loss[-1]
    retrained = tuned.retrained_end.mean(0)
    best = reference.classes_losses.valid
    if len(target) == 1:
        limits = best * target[0], np.inf
        wanted = (
            f"validation loss within {target[0] - 1:.0%} of the exact optimum of ten decays, "
            f"{best:.5f}"
        )
    else:
        limits = target
        wanted = f"validation {target[0]:.4f} and test {target[1]:.4f}, or less"
    return _results.claim(
        f"{label}: {wanted}.",
        f"validation {_shown(valid)}, test {_shown(test)}; attainable gain "
        f"{float(np.mean(reference.gain(valid))):.2f} after {tuned.history.step[-1]} rounds, "
        f"{tuned.history.gradient_evaluations[-1].mean():,.0f} gradient evaluations per seed and "
        f"{tuned.history.seconds[-1]:.0f} s for all seeds. Weights retrained at λ̂: "
        f"{retrained[0]:.5f}, {retrained[1]:.5f}",
        holds=valid.mean() <= limits[0] and test.mean() <= limits[1],
    )


def _shown(losses: np.ndarray) -> str:
    return f"{losses.mean():.5f} (from {losses.min():.5f} to {losses.max():.5f})"


def _arrays(found: dict[str, Tuned], reference: Reference) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "scalar": np.array(reference.scalar_losses),
        "classes": np.array(reference.classes_losses),
        "exact_path": np.array(reference.path),
    }
    for label, (history, retrained, _) in found.items():
        arrays |= _results.history_arrays(label, history)
        arrays[f"{label}: retrained"] = retrained
        # Of 7,850 decays the quantiles, for all would be most of the file.
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(history.unconstrained)]
        flat = np.concatenate([x.reshape(*x.shape[:2], -1) for x in leaves], axis=-1)
        arrays[f"{label}: log decay quantiles"] = np.quantile(flat, (0.05, 0.5, 0.95), axis=-1)
    return arrays


def _draw(config: Any, found: dict[str, Tuned], reference: Reference) -> Figure:
    lines = {
        "best single decay, exact": (reference.scalar_losses, ":"),
        "best ten decays, exact": (reference.classes_losses, "-."),
    }
    if config.per == "weight":
        lines["exact hypergradient, 30 steps"] = reference.path[-1], "--"
    looks = {
        label: {"color": color, "marker": mark}
        for label, color, mark in zip(found, _plots.COLORS, "osD", strict=False)
    }
    figure, axes = _plots.cost_panels({label: t.history for label, t in found.items()}, looks)
    for label, (history, retrained, _) in found.items():
        look = {"color": looks[label]["color"], "linestyle": (0, (1, 1))}
        for row, losses in zip(axes, retrained.T, strict=True):
            for panel, cost in zip(row, _plots.costs(history), strict=True):
                name = f"{label}: retrained at " + r"$\hat\lambda$"
                panel.plot(cost[1:], losses[1:], label=name, **look)
    _plots.reference_lines(axes, lines)
    shown = {
        split: [
            *(getattr(losses, split) for losses, _ in lines.values()),
            *(tuned.retrained[:, row] for tuned in found.values()),
            *(getattr(tuned.history, f"{split}_loss")[-1].mean() for tuned in found.values()),
        ]
        for row, split in enumerate(_plots.SPLITS)
    }
    _plots.frame(axes, shown)
    figure.suptitle(config.title)
    _plots.legend_below(figure, axes[0, 0], columns=3)
    return figure
