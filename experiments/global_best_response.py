r"""Figure 2 of the paper: the best response learned for every λ at once (Algorithm 2).

python -m experiments.global_best_response --config=configs/global_best_response.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import shohypernet as shn
from experiments import launch, report, small_problem
from experiments.small_problem import loss_at

OPTIMUM_TOLERANCE = 0.3  # in log decay, between the two curves' minima
LOSS_TOLERANCE = 0.02  # of the cross-validated loss, at every cross from λ = 0 up


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Trains one hypernet for all decays, draws its curve over the crosses, then moves λ̂."""
    problem, data = small_problem.build(config)
    weights = jax.eval_shape(problem.init, jax.random.key(0))
    hypernet = shn.hypernets.mlp(weights, config.hypernet_hidden)
    broad = shn.hyperparameters.gaussian(config.prior_mean, config.prior_scale)
    method = shn.global_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(
            optax.cosine_decay_schedule(
                config.hypernet_learning_rate, config.hypernet_rounds * config.inner_steps
            )
        ),
        hyper_optimizer=optax.adam(config.hyper_learning_rate),
        sampler=shn.hyperparameters.clipped(broad, config.prior_low, config.prior_high),
        hypernet_rounds=config.hypernet_rounds,
        samples=config.samples,
    )
    folder = workdir / "fit"
    rounds = config.hypernet_rounds + config.hyper_rounds
    print(f"Training the hypernet for {config.hypernet_rounds} rounds of {rounds}, then moving λ̂.")
    result = shn.fit(
        problem,
        method,
        data,
        jnp.float32(config.start),
        steps=rounds,
        seeds=config.seeds,
        inner_steps=config.inner_steps,
        workdir=folder,
        resume=resume and (folder / "run.json").exists(),
        config=config.to_dict(),
    )
    print("Cross-validating.")
    crosses = small_problem.cross_validate(problem, data, config)
    learned = small_problem.hypernet_curve(
        problem, hypernet, jax.tree.map(lambda x: x[0], result.state.hypernet_params), data, config
    )
    found = float(result.hyperparams[0])

    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    small_problem.draw_curves(axes, crosses, learned)
    axes.axvline(found, color="0.1", linewidth=1, label=r"$\hat\lambda$ found")
    axes.set_title("One hypernet for every decay")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
    report.save_figure(figure, workdir, "global_best_response")
    report.save_arrays(
        workdir,
        "global_best_response",
        {
            **{f"cross_{name}": value for name, value in crosses._asdict().items()},
            **{f"learned_{name}": value for name, value in learned._asdict().items()},
            "steps": result.history.step,
            "path": result.history.hyperparams,
        },
    )
    covered = [x for x in crosses.hyperparams if 0 <= x <= config.prior_high]
    gaps = np.array([loss_at(learned, x) / loss_at(crosses, x) - 1 for x in covered])
    worst = int(np.argmax(np.abs(gaps)))
    return {
        "claims": [
            report.claim(
                "The minimum of the hypernet's validation loss lies near the crosses' minimum "
                f"(within {OPTIMUM_TOLERANCE}).",
                f"the curve is least at {learned.optimum:.2f}, the crosses at "
                f"{crosses.optimum:.2f}, and λ̂ ended at {found:.2f}",
                holds=abs(learned.optimum - crosses.optimum) <= OPTIMUM_TOLERANCE,
            ),
            report.claim(
                "The hypernet's weights are as good as trained ones at every cross from λ = 0 up "
                f"(validation loss within {LOSS_TOLERANCE:.0%}).",
                f"at worst {gaps[worst]:+.2%}, at λ = {covered[worst]:.1f}",
                holds=np.abs(gaps[worst]) <= LOSS_TOLERANCE,
            ),
        ],
        "cross_validated_optimum": crosses.optimum,
        "least_cross_validated_loss": float(crosses.valid_loss.min()),
        "hypernet_optimum": learned.optimum,
        "least_hypernet_loss": float(learned.valid_loss.min()),
        "final_hyperparams": np.asarray(result.hyperparams).tolist(),
        "seconds": float(result.history.seconds[-1]),
        "compile_seconds": result.compile_seconds,
    }


if __name__ == "__main__":
    launch.main(run)
