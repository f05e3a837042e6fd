"""Figure 3 of the paper: the best response learned near λ̂, and where λ̂ goes (Algorithm 3).

python -m experiments.local_best_response --config=configs/local_best_response.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.axes import Axes

import shohypernet as shn
from experiments import launch, report, small_problem
from experiments.small_problem import Curve, loss_at

TOLERANCE = 0.25  # in log decay, between λ̂ and the cross-validated optimum
FAR = 1.5  # in log decay, where a linear best response should have gone wrong


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tunes the decay at every sampling scale, and draws what was learned at the first."""
    problem, data = small_problem.build(config)
    weights = jax.eval_shape(problem.init, jax.random.key(0))
    hypernet = shn.hypernets.linear(weights)

    def tune(scale: float, seeds: tuple[int, ...]) -> shn.Result:
        method = shn.local_response(
            problem,
            hypernet,
            hypernet_optimizer=optax.sgd(config.hypernet_learning_rate),
            hyper_optimizer=optax.adam(config.hyper_learning_rate),
            sampler=shn.hyperparameters.local_gaussian(scale),
            samples=config.samples,
        )
        folder = workdir / f"sampling_{scale:g}"
        print(f"Hyper-training with sampling scale {scale:g}, seeds {seeds}.")
        return shn.fit(
            problem,
            method,
            data,
            jnp.float32(config.start),
            steps=config.steps,
            seeds=seeds,
            workdir=folder,
            resume=resume and (folder / "run.json").exists(),
            config=config.to_dict(),
        )

    results = {config.sampling_scale: tune(config.sampling_scale, config.seeds)}
    for scale in sorted({*config.other_sampling_scales} - {config.sampling_scale}):
        results[scale] = tune(scale, config.seeds[:1])
    print("Cross-validating.")
    crosses = small_problem.cross_validate(problem, data, config)
    main = results[config.sampling_scale]
    learned = small_problem.hypernet_curve(
        problem, hypernet, jax.tree.map(lambda x: x[0], main.state.hypernet_params), data, config
    )

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5))
    found = float(main.hyperparams[0])
    _draw_losses(left, crosses, learned, found, config.sampling_scale)
    _draw_paths(right, results, crosses.optimum)
    report.save_figure(figure, workdir, "local_best_response")

    report.save_arrays(
        workdir,
        "local_best_response",
        {
            **{f"cross_{name}": value for name, value in crosses._asdict().items()},
            **{f"learned_{name}": value for name, value in learned._asdict().items()},
            "steps": main.history.step,
            **{f"path_{scale:g}": r.history.hyperparams for scale, r in results.items()},
        },
    )
    ends = {f"{scale:g}": np.asarray(r.hyperparams).tolist() for scale, r in results.items()}
    furthest = float(np.max(np.abs(np.asarray(main.hyperparams) - crosses.optimum)))
    path = np.asarray(main.history.hyperparams)
    ended = ", ".join(f"{end:.2f}" for end in path[-1])
    drift = ", ".join(f"{end:+.2f}" for end in path[-1] - path[-1 - max(1, len(path) // 10)])
    others = ", ".join(
        f"{float(result.hyperparams[0]):.2f} with scale {scale:g}"
        for scale, result in results.items()
        if result is not main
    )
    return {
        "claims": [
            report.claim(
                "Hyper-training ends where the cross-validated loss is least "
                f"(within {TOLERANCE}, every seed).",
                f"λ̂ ended at {ended}, having moved by {drift} in the last tenth of the steps; the "
                f"cross-validated optimum is {crosses.optimum:.2f}"
                + (f". The first seed ended at {others}" if others else ""),
                holds=furthest <= TOLERANCE,
            ),
            _claim_local(crosses, learned, found),
        ],
        "cross_validated_optimum": crosses.optimum,
        "final_hyperparams_by_sampling_scale": ends,
        "seconds_by_sampling_scale": {
            f"{scale:g}": float(r.history.seconds[-1]) for scale, r in results.items()
        },
        "compile_seconds": main.compile_seconds,
    }


def _claim_local(crosses: Curve, learned: Curve, found: float) -> dict[str, Any]:
    def gap(hyperparams: float) -> float:
        return loss_at(learned, hyperparams) - loss_at(crosses, hyperparams)

    near, below, above = gap(found), gap(found - FAR), gap(found + FAR)
    return report.claim(
        "The linear hypernet's weights are right only near λ̂.",
        f"validation loss above that of trained weights by {near:.3f} at λ̂, {below:.3f} at "
        f"λ̂ - {FAR} and {above:.3f} at λ̂ + {FAR}",
        holds=abs(near) < min(abs(below), abs(above)),
    )


def _draw_losses(
    axes: Axes, crosses: Curve, learned: Curve, found: float, sampling_scale: float
) -> None:
    small_problem.draw_curves(axes, crosses, learned)
    axes.axvline(found, color="0.1", linewidth=1, label=r"$\hat\lambda$ found")
    axes.axvspan(
        found - 2 * sampling_scale,
        found + 2 * sampling_scale,
        color="0.1",
        alpha=0.15,
        linewidth=0,
        label=r"$p(\lambda\,|\,\hat\lambda)$, ±2 sd",
    )
    axes.set_title("What the hypernet learned")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)


def _draw_paths(axes: Axes, results: dict[float, shn.Result], optimum: float) -> None:
    axes.axhspan(optimum - TOLERANCE, optimum + TOLERANCE, color="0.85", linewidth=0)
    axes.axhline(
        optimum, color="0.4", linestyle=":", label=f"cross-validated optimum, ±{TOLERANCE} shaded"
    )
    looks = zip(report.COLORS, report.STYLES, strict=True)
    for (scale, result), (color, style) in zip(sorted(results.items()), looks, strict=False):
        paths = axes.plot(
            result.history.step, result.history.hyperparams, color=color, linestyle=style
        )
        count = len(paths)
        paths[0].set_label(f"sampling sd {scale:g}, {count} seed{'s' if count > 1 else ''}")
    axes.set(
        xlabel="steps",
        ylabel=r"$\hat\lambda$ (log decay)",
        title=r"Where $\hat\lambda$ goes",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)


if __name__ == "__main__":
    launch.main(run)
