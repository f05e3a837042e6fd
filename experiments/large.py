"""Hyper-training of the linear model's decays, beside what is known exactly (paper, section 4.3).

With a decay for each of 7,850 weights it is the paper's large problem, and with one for each class
its medium one (`experiments.medium`). L_valid of the method's own weights tells how well they are
fitted and tuned together; that of the exact best response to its λ̂, how well λ̂ is tuned.

python -m experiments.large --config=configs/large.py --workdir=DIR
"""

import pathlib
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import decay_problem, hyper_training, launch, report
from experiments.decay_problem import Reference
from shohypernet import ridge

PAPER3, PAPER4, TUNED = "Algorithm 3, paper", "Algorithm 4, paper", "Algorithm 3, tuned"
SPLITS = {"valid": "validation", "test": "test"}


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
    """Tunes with every method, and draws validation and test loss against time and compute."""
    name = config.name
    data = decay_problem.load_data(config)
    problem = decay_problem.problem_on(data)
    reference, exact = decay_problem.reference(data), ridge.ridge(data)
    start = decay_problem.log_decays(problem, config.start, config.per)
    methods = {
        PAPER3: (hyper_training.paper(problem, config.paper), config.paper),
        PAPER4: (hyper_training.paper(problem, config.paper, simultaneous=True), config.paper),
        TUNED: (hyper_training.tuned(problem, config.tuned), config.tuned),
    }
    found = {}
    for label, (method, settings) in methods.items():
        print(f"{label}: {settings.rounds} rounds, seeds {config.seeds}.", flush=True)
        folder = workdir / label.replace(",", "").replace(" ", "_").lower()
        result = hyper_training.fit(
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

    report.save_figure(_draw(config, found, reference), workdir, name)
    report.save_arrays(workdir, name, _arrays(found, reference))
    return {
        "claims": _claims(config, found, reference),
        "order": f"{config.data}: {config.train_examples:,} training, {config.valid_examples:,} "
        "validation examples",
        "best_scalar": {"log_decay": reference.scalar, **reference.scalar_losses._asdict()},
        "best_classes": reference.classes_losses._asdict(),
        "exact_path": reference.path[-1]._asdict(),
        "methods": {label: _summary(tuned, reference) for label, tuned in found.items()},
    }


def _retrained(exact: ridge.Ridge, history: shn.History) -> tuple[np.ndarray, np.ndarray]:
    def losses(evaluation: int, seed: int) -> list[float]:
        decay: Any = jax.tree.map(lambda leaf: leaf[evaluation, seed], history.hyperparams)
        decay = decay_problem.to_ridge(decay) if isinstance(decay, dict) else decay
        made = ridge.losses(exact, ridge.best_response(exact, decay))
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
    claims = []
    for label, target in ((PAPER3, config.paper.target), (TUNED, config.tuned.target)):
        tuned = found[label]
        valid, test = tuned.history.valid_loss[-1], tuned.history.test_loss[-1]
        retrained = tuned.retrained_end.mean(0)
        limits = (
            (reference.classes_losses.valid * target[0], np.inf) if len(target) == 1 else target
        )
        wanted = (
            f"validation loss within {target[0] - 1:.0%} of the exact optimum of ten decays, "
            f"{reference.classes_losses.valid:.5f}"
            if len(target) == 1
            else f"validation {target[0]:.4f} and test {target[1]:.4f}, or less"
        )
        claims.append(
            report.claim(
                f"{label}: {wanted}.",
                f"validation {_shown(valid)}, test {_shown(test)}; attainable gain "
                f"{float(np.mean(reference.gain(valid))):.2f} after {tuned.history.step[-1]} "
                f"rounds, {tuned.history.gradient_evaluations[-1].mean():,.0f} gradient "
                f"evaluations a seed and {tuned.history.seconds[-1]:.0f} s for all seeds. Weights "
                f"retrained at λ̂: {retrained[0]:.5f}, {retrained[1]:.5f}",
                holds=valid.mean() <= limits[0] and test.mean() <= limits[1],
            )
        )
    return claims


def _shown(losses: np.ndarray) -> str:
    return f"{losses.mean():.5f} (from {losses.min():.5f} to {losses.max():.5f})"


def _arrays(found: dict[str, Tuned], reference: Reference) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "scalar": np.array(reference.scalar_losses),
        "classes": np.array(reference.classes_losses),
        "exact_path": np.array(reference.path),
    }
    for label, (history, retrained, _) in found.items():
        fields = history._asdict()
        decays = jax.tree.leaves(fields.pop("hyperparams"))
        arrays |= {f"{label}: {field}": value for field, value in fields.items()}
        arrays[f"{label}: retrained"] = retrained
        # Of 7,850 decays the quantiles, for all would be most of the file.
        flat = np.concatenate([x.reshape(*x.shape[:2], -1) for x in decays], axis=-1)
        arrays[f"{label}: log decay quantiles"] = np.quantile(flat, (0.05, 0.5, 0.95), axis=-1)
    return arrays


def _draw(config: Any, found: dict[str, Tuned], reference: Reference) -> Figure:
    figure, axes = plt.subplots(2, 2, figsize=(12, 8.5), sharex="col", sharey="row")
    lines = {
        "best single decay, exact": (reference.scalar_losses, ":"),
        "best ten decays, exact": (reference.classes_losses, "-."),
    }
    if config.per == "weight":
        lines["exact hypergradient, 30 steps"] = reference.path[-1], "--"
    looks = zip(report.COLORS, "osD", strict=False)
    for (label, (history, retrained, _)), (color, mark) in zip(found.items(), looks, strict=False):
        costs = history.seconds, history.gradient_evaluations.mean(1)
        for column, cost in enumerate(costs):
            for row, losses in enumerate((history.valid_loss, history.test_loss)):
                panel = axes[row, column]
                look = {"color": color, "marker": mark, "markersize": 4, "linewidth": 1.2}
                panel.plot(cost[1:], losses.mean(1)[1:], **look, label=label)
                panel.fill_between(
                    cost[1:], losses.min(1)[1:], losses.max(1)[1:], color=color, alpha=0.15
                )
                panel.plot(
                    cost[1:],
                    retrained[1:, row],
                    color=color,
                    linestyle=(0, (1, 1)),
                    label=f"{label}: retrained at " + r"$\hat\lambda$",
                )
    for row, split in enumerate(SPLITS):
        drawn = [getattr(losses, split) for losses, _ in lines.values()]
        drawn += [tuned.retrained[:, row] for tuned in found.values()]
        drawn += [getattr(tuned.history, f"{split}_loss")[-1].mean() for tuned in found.values()]
        least, most = np.min(np.hstack(drawn)), np.max(np.hstack(drawn))
        margin = 0.1 * (most - least)
        axes[row, 0].set(ylim=(least - margin, most + margin), ylabel=f"{SPLITS[split]} loss (MSE)")
        for panel in axes[row]:
            for label, (losses, style) in lines.items():
                panel.axhline(getattr(losses, split), color="0.4", linestyle=style, label=label)
    axes[1, 0].set_xlabel("seconds, all seeds at once")
    axes[1, 1].set_xlabel("gradient evaluations a seed")
    figure.suptitle(config.title)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    return figure


if __name__ == "__main__":
    launch.main(run)
