"""Figure 3 of the paper: the best response learned near λ̂, and the path of λ̂ (Algorithm 3).

python -m experiments.local_best_response --config=configs/local_best_response.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.axes import Axes

import shohypernet as shn
from experiments import _launch, _plots, _results, _small_problem
from experiments._small_problem import Curve, loss_at
from shohypernet.batches import Data
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem

NAME = "local_best_response"
TOLERANCE = 0.25  # in log decay, between λ̂ and the cross-validated optimum
FAR = 1.5  # in log decay, where a linear best response should have gone wrong


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune the decay at every sampling scale, and draw what was learned at the first."""
    problem, data = _small_problem.build(config)
    hypernet = shn.hypernets.linear(init_scale=config.init_scale)
    main = config.sampling_scale
    others = sorted({*config.other_sampling_scales} - {main})
    results = {
        scale: _tuned(problem, hypernet, data, config, scale, seeds, workdir, resume=resume)
        for scale, seeds in [(main, config.seeds), *((scale, config.seeds[:1]) for scale in others)]
    }
    print("Cross-validating.")
    crosses = _small_problem.cross_validate(problem, data, config)
    phi = jax.tree.map(lambda leaf: leaf[0], results[main].state.hypernet_params)
    learned = _small_problem.hypernet_curve(problem, hypernet, phi, data, config)
    found = float(results[main].unconstrained[0])

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5))
    _draw_losses(left, crosses, learned, found, main)
    _draw_paths(right, results, crosses.optimum)
    _plots.save_figure(figure, workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {
            **_small_problem.curve_arrays(crosses, learned),
            "steps": results[main].history.step,
            **{f"path_{scale:g}": r.history.unconstrained for scale, r in results.items()},
        },
    )
    return {
        "main": {"λ̂": np.asarray(results[main].unconstrained).tolist(), "best λ": crosses.optimum},
        "claims": [
            _claim_optimum(crosses, results, main),
            _claim_local(crosses, learned, found),
        ],
        "cross_validated_optimum": crosses.optimum,
        "final_hyperparams_by_sampling_scale": {
            f"{scale:g}": np.asarray(r.unconstrained).tolist() for scale, r in results.items()
        },
        "seconds_by_sampling_scale": {
            f"{scale:g}": float(r.history.seconds[-1]) for scale, r in results.items()
        },
        "compile_seconds": results[main].compile_seconds,
    }


def _tuned(
    problem: Problem,
    hypernet: Hypernet,
    data: Data,
    config: Any,
    scale: float,
    seeds: tuple[int, ...],
    workdir: pathlib.Path,
    *,
    resume: bool,
) -> shn.Result:
    method = shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.sgd(config.hypernet_learning_rate),
        hyper_optimizer=optax.adam(config.hyper_learning_rate),
        sampler=shn.samplers.local_gaussian(scale),
        samples=config.samples,
    )
    print(f"Hyper-training with sampling scale {scale:g}, seeds {seeds}.")
    return shn.fit(
        problem,
        method,
        data,
        np.exp(config.start),
        steps=config.steps,
        seeds=seeds,
        inner_steps=config.inner_steps,
        workdir=workdir / f"sampling_{scale:g}",
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


def _claim_optimum(crosses: Curve, results: dict[float, shn.Result], main: float) -> dict[str, Any]:
    path = np.asarray(results[main].history.unconstrained)
    ended = ", ".join(f"{end:.2f}" for end in path[-1])
    drift = ", ".join(f"{end:+.2f}" for end in path[-1] - path[-1 - max(1, len(path) // 10)])
    others = ", ".join(
        f"{float(result.unconstrained[0]):.2f} with scale {scale:g}"
        for scale, result in results.items()
        if scale != main
    )
    return _results.claim(
        "Hyper-training ends where the cross-validated loss is least "
        f"(within {TOLERANCE}, every seed).",
        f"λ̂ ended at {ended}, having moved by {drift} in the last tenth of the steps; the "
        f"cross-validated optimum is {crosses.optimum:.2f}"
        + (f". The first seed ended at {others}" if others else ""),
        holds=np.max(np.abs(path[-1] - crosses.optimum)) <= TOLERANCE,
    )


def _claim_local(crosses: Curve, learned: Curve, found: float) -> dict[str, Any]:
    def gap(hyperparams: float) -> float:
        return loss_at(learned, hyperparams) - loss_at(crosses, hyperparams)

    near, below, above = gap(found), gap(found - FAR), gap(found + FAR)
    return _results.claim(
        "The linear hypernet's weights are right only near λ̂.",
        f"validation loss above that of trained weights by {near:.3f} at λ̂, {below:.3f} at "
        f"λ̂ - {FAR} and {above:.3f} at λ̂ + {FAR}",
        holds=abs(near) < min(abs(below), abs(above)),
    )


def _draw_losses(
    axes: Axes, crosses: Curve, learned: Curve, found: float, sampling_scale: float
) -> None:
    _small_problem.draw_curves(axes, crosses, learned)
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
    _small_problem.legend_under(axes)


def _draw_paths(axes: Axes, results: dict[float, shn.Result], optimum: float) -> None:
    axes.axhspan(optimum - TOLERANCE, optimum + TOLERANCE, color="0.85", linewidth=0)
    axes.axhline(
        optimum, color="0.4", linestyle=":", label=f"cross-validated optimum, ±{TOLERANCE} shaded"
    )
    looks = zip(_plots.COLORS, _plots.STYLES, strict=True)
    for (scale, result), (color, style) in zip(sorted(results.items()), looks, strict=False):
        paths = axes.plot(
            result.history.step, result.history.unconstrained, color=color, linestyle=style
        )
        count = len(paths)
        paths[0].set_label(f"sampling sd {scale:g}, {count} seed{'s' if count > 1 else ''}")
    axes.set(xlabel="steps", ylabel=r"$\hat\lambda$ (log decay)", title=r"Where $\hat\lambda$ goes")
    _small_problem.legend_under(axes)


if __name__ == "__main__":
    _launch.main(run)
