r"""Figure 6 of the paper: is it better to learn the best weights, or the loss that they have?

python -m experiments.weights_versus_loss --config=configs/weights_versus_loss.py --workdir=DIR
"""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from tqdm import tqdm

import shohypernet as shn
from experiments import launch, principal_axes, report
from experiments.decay_problem import load_data
from shohypernet.hypernets import Hypernet
from shohypernet.hyperparameters import Sampler
from shohypernet.problem import Problem

QUANTILES = (0.05, 0.5, 0.95)
CENTRED = 0.1  # |median| of an error centered on 0, as a part of its 90 % range
NEAR_BEST = 0.02  # of the true best loss

# The paper's three, each with what improves on it here.
NAMES = {
    "process": "(a) Gaussian process on the losses",
    "fixed": "(b) linear hypernet, the same λ",
    "stochastic": "(c) linear hypernet, sampled λ",
    "process_ours": "mean, amplitude, noise fitted",
    "relu": "ReLU hypernet, sampled λ",
}
COLUMNS = {"process": "process_ours", "fixed": None, "stochastic": "relu"}


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Trains models, infers from some of them what the others would reach, and compares."""
    budget = config.models * config.train_steps
    rounds, left_over = divmod(budget, config.samples * config.inner_steps)
    if left_over:
        raise ValueError(
            f"models · train_steps = {budget} gradient evaluations must be whole rounds of samples "
            f"· inner_steps = {config.samples * config.inner_steps}; change one of the four."
        )
    data = principal_axes.rotate(load_data(config))
    problem = principal_axes.problem_on(
        data, shn.losses.gaussian_nll_from_mse, shn.penalties.class_norm_penalty
    )
    broad = shn.hyperparameters.uniform(config.hyperparam_low, config.hyperparam_high)
    sets = config.sets
    drawn = jax.jit(jax.vmap(broad, (0, None)))(
        jax.random.split(jax.random.key(0), sets * config.models + config.pairs), jnp.zeros(10)
    )
    points = drawn[: sets * config.models].reshape(sets, config.models, -1)
    pairs = drawn[sets * config.models :]
    kept = workdir / "trained.npz"
    if resume and kept.exists():
        losses = np.load(kept)["losses"]
    else:
        print(f"Training {len(drawn)} models to completion.")
        losses = train(problem, data, drawn, config, config.train_steps)
        np.savez(kept, losses=losses)
    known, true = losses[: -config.pairs].reshape(sets, -1), losses[-config.pairs :]
    longer = train(problem, data, points[0], config, 2 * config.train_steps)

    def learn(
        name: str, hypernet: Hypernet, sampler: Sampler, seeds: Sequence[int]
    ) -> tuple[Any, float]:
        """The φ of each seed by the first phase of Algorithm 2, and its seconds."""
        method = shn.global_response(
            problem,
            hypernet,
            hypernet_optimizer=optax.adam(
                optax.cosine_decay_schedule(
                    config.hypernet_learning_rate, rounds * config.inner_steps
                )
            ),
            hyper_optimizer=optax.identity(),  # λ̂ never moves, as every round is of the first phase
            sampler=sampler,
            hypernet_rounds=rounds,
            samples=config.samples,
        )
        folder = workdir / name
        result = shn.fit(
            problem,
            method,
            data,
            jnp.zeros(10),
            steps=rounds,
            seeds=seeds,
            inner_steps=config.inner_steps,
            eval_every=rounds,
            workdir=folder,
            resume=resume and (folder / "run.json").exists(),
            config=config.to_dict(),
        )
        spent = int(result.history.gradient_evaluations[-1, 0])
        if spent != budget:
            raise RuntimeError(f"{name} took {spent} gradient evaluations, not {budget}")
        return result.state.hypernet_params, float(result.history.seconds[-1])

    weights = jax.eval_shape(problem.init, jax.random.key(0))
    linear = shn.hypernets.linear(weights)
    relu = shn.hypernets.mlp(weights, (config.relu_units,))
    print(f"Training hypernets for {budget} gradient evaluations each.")
    fixed = [
        learn(f"fixed_{i}", linear, shn.hyperparameters.fixed_set(its_own), config.seeds[:1])
        for i, its_own in enumerate(points)
    ]
    learned = {
        "fixed": (
            jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(phi for phi, _ in fixed)),
            sum(seconds for _, seconds in fixed),
        ),
        "stochastic": learn("stochastic", linear, broad, config.seeds),
        "relu": learn("relu", relu, broad, config.seeds),
    }
    inferred = {
        name: infer(problem, relu if name == "relu" else linear, phi, pairs, data, config)
        for name, (phi, _) in learned.items()
    }
    kernels = {
        "process": {"kernel": RBF()},
        "process_ours": {
            # No two of 25 λ lie closer than a few units, so no shorter length can be told.
            "kernel": ConstantKernel() * RBF(5.0, (1.0, 100.0)) + WhiteKernel(1e-2, (1e-6, 1.0)),
            "normalize_y": True,
            "n_restarts_optimizer": config.process_restarts,
        },
    }
    for name, settings in kernels.items():
        with warnings.catch_warnings():
            # An optimum at a bound of the kernel's is as good as another.
            warnings.simplefilter("ignore", ConvergenceWarning)
            processes = [
                GaussianProcessRegressor(**settings, random_state=0).fit(*its_own)
                for its_own in zip(points, known, strict=True)
            ]
        inferred[name] = np.stack([process.predict(pairs) for process in processes])

    report.save_figure(_draw(true, inferred), workdir, "weights_versus_loss")
    report.save_arrays(
        workdir,
        "weights_versus_loss",
        {
            "hyperparams": pairs,
            "true_loss": true,
            **{f"inferred_{name}": value for name, value in inferred.items()},
            "models_hyperparams": points,
            "models_loss": known,
        },
    )
    found = {name: _summary(true, inferred[name]) for name in NAMES}
    # How far each pair's λ lies from the nearest of a set, shape (sets, pairs).
    away = np.stack([cdist(np.asarray(pairs), np.asarray(each)).min(axis=1) for each in points])
    processes = inferred["process"]
    trends = {
        "process_by_distance": _by_tenths(away, processes - true),
        "stochastic_by_true_loss": _by_tenths(true, inferred["stochastic"] - true),
    }
    chosen = np.take_along_axis(away, processes.argmin(axis=1)[:, None], axis=1)
    farther = float((away < chosen).mean())
    return {
        "claims": _claims(found, trends, float(true.min()), farther),
        "errors": found,
        "mean_error_by_tenths": trends,
        "share_of_pairs_nearer_to_a_set_than_what_its_process_chose": farther,
        "true_best": float(true.min()),
        "best_of_the_models": known.min(axis=1).tolist(),
        "gradient_evaluations_of_each_method": budget,
        "gradient_evaluations_of_the_pairs": config.pairs * config.train_steps,
        "largest_change_of_loss_with_twice_the_steps": float(np.abs(longer - known[0]).max()),
        "hypernet_seconds": {name: spent for name, (_, spent) in learned.items()},
    }


def train(
    problem: Problem, data: Any, hyperparams: jax.Array, config: Any, steps: int
) -> np.ndarray:
    """The validation losses of models trained to completion, one a row of hyperparameters."""
    schedule = optax.cosine_decay_schedule(config.train_learning_rate, steps)

    @jax.jit
    def wave(hyperparams: jax.Array, data: Any) -> jax.Array:
        def one(each: jax.Array) -> jax.Array:
            trained = shn.train(
                problem, optax.adam(schedule), jax.random.key(0), each, data.train, steps=steps
            )
            return problem.valid_loss(trained.params, each, data.valid)

        return jax.vmap(one)(hyperparams)

    count, dimensions = hyperparams.shape
    size = min(config.models_at_once, count)
    # Repeated from the start to fill the last wave.
    waves = np.resize(hyperparams, (-(-count // size), size, dimensions))
    done = [np.asarray(wave(each, data)) for each in tqdm(waves, unit=" waves", disable=None)]
    return np.concatenate(done)[:count]


def infer(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_params: Any,
    hyperparams: jax.Array,
    data: Any,
    config: Any,
) -> np.ndarray:
    """L_valid(w_φ(λ)) for each φ (its leading axis) and each row of hyperparameters."""

    @jax.jit
    def losses(hypernet_params: Any, hyperparams: jax.Array, valid: Any) -> jax.Array:
        return jax.lax.map(
            lambda each: problem.valid_loss(hypernet.apply(hypernet_params, each), each, valid),
            hyperparams,
            batch_size=config.models_at_once,
        )

    seeds = len(jax.tree.leaves(hypernet_params)[0])
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], hypernet_params) for i in range(seeds)]
    return np.stack([np.asarray(losses(phi, hyperparams, data.valid)) for phi in each])


def _summary(true: np.ndarray, inferred: np.ndarray) -> dict[str, list[float]]:
    """Each a list over the sets: quantiles of the error, and what the best predicted λ gives."""
    low, median, high = np.quantile(inferred - true, QUANTILES, axis=1)
    chosen = np.argmin(inferred, axis=1)
    return {
        "quantile_5": low.tolist(),
        "median": median.tolist(),
        "quantile_95": high.tolist(),
        "range_90": (high - low).tolist(),
        "best_predicted": inferred.min(axis=1).tolist(),
        "then_obtained": true[chosen].tolist(),
    }


def _by_tenths(order: np.ndarray, errors: np.ndarray) -> list[float]:
    """Mean error where something (broadcast to the errors) is in its lowest tenth, and so on up."""
    ranked = np.take_along_axis(errors, np.argsort(np.broadcast_to(order, errors.shape)), axis=1)
    return [float(part.mean()) for part in np.array_split(ranked, 10, axis=1)]


def _claims(
    found: dict[str, dict[str, list[float]]],
    trends: dict[str, list[float]],
    best: float,
    farther: float,
) -> list[dict[str, Any]]:
    medians, ranges, predicted, obtained = (
        {name: np.array(each[field]) for name, each in found.items()}
        for field in ("median", "range_90", "best_predicted", "then_obtained")
    )
    paper = tuple(COLUMNS)
    sets = len(medians["process"])

    def signed(name: str) -> str:
        values = medians[name]
        return (
            f"the median is {values.mean():+.3f} nats on average over {sets} sets of λ, "
            f"from {values.min():+.3f} to {values.max():+.3f}, below 0 in {np.sum(values < 0)}"
        )

    near, far = trends["process_by_distance"][0], trends["process_by_distance"][-1]
    low, high = trends["stochastic_by_true_loss"][0], trends["stochastic_by_true_loss"][-1]
    return [
        report.claim(
            "The Gaussian process under-predicts (median error below 0, on average).",
            f"{signed('process')}. Its mean error is {near:+.3f} on the tenth of λ nearest to the "
            f"trained ones and {far:+.3f} on the farthest, where its prior mean, 0, weighs most",
            holds=bool(medians["process"].mean() < 0),
        ),
        report.claim(
            "The linear hypernet of the same fixed λ over-predicts (median error above 0, on "
            "average).",
            signed("fixed"),
            holds=bool(medians["fixed"].mean() > 0),
        ),
        report.claim(
            "The stochastically trained linear hypernet's error is centered on 0 "
            f"(its median within {CENTRED:.0%} of its 90 % range, every seed).",
            f"medians {_listed(medians['stochastic'], '+.3f')} nats, ranges "
            f"{_listed(ranges['stochastic'])}. The mean error is {low:+.3f} on the tenth of λ with "
            f"the least true loss and {high:+.3f} on that with the greatest: a linear map can't "
            "follow the curve of the best response, which no training mends",
            holds=bool(np.all(np.abs(medians["stochastic"]) <= CENTRED * ranges["stochastic"])),
        ),
        report.claim(
            "The stochastically trained linear hypernet's 90 % range is the narrowest of the "
            "three, whatever the seed and the set.",
            "; ".join(f"{NAMES[name]}: {_span(ranges[name])}" for name in paper)
            + f" nats. Ours, for as many gradient evaluations: {NAMES['relu']}: "
            f"{_span(ranges['relu'])}; (a) with {NAMES['process_ours']}: "
            f"{_span(ranges['process_ours'])}",
            holds=ranges["stochastic"].max() < min(ranges["process"].min(), ranges["fixed"].min()),
        ),
        report.claim(
            "The λ that each of the three predicts best is nearly the true best "
            f"(loss within {NEAR_BEST:.0%}, on average).",
            f"the true best of all pairs is {best:.3f}; predicted, and then obtained, on average: "
            + "; ".join(
                f"{NAMES[name]}: {predicted[name].mean():.3f} and {obtained[name].mean():.3f}"
                for name in paper
            )
            + f". What a process predicts best lies farther from its data than {farther:.0%} of "
            "all λ do",
            holds=all(obtained[name].mean() <= best * (1 + NEAR_BEST) for name in paper),
        ),
    ]


def _listed(values: np.ndarray, form: str = ".3f") -> str:
    return ", ".join(format(value, form) for value in values)


def _span(values: np.ndarray) -> str:
    low, high = f"{values.min():.3f}", f"{values.max():.3f}"
    return low if low == high else f"{low} to {high}"


def _draw(true: np.ndarray, inferred: dict[str, np.ndarray]) -> Figure:
    """Inferred against true loss for the first set above, and below the error for all of them."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.5), sharex="row", sharey="row")
    errors = {name: np.ravel(each - true) for name, each in inferred.items()}
    ends = np.quantile(np.concatenate([errors[name] for name in COLUMNS]), (0.005, 0.999))
    bins = np.linspace(ends[0], ends[1], 61).tolist()
    columns = zip(axes.T, report.COLORS, COLUMNS.items(), strict=False)
    for (above, below), color, (name, ours) in columns:
        above.plot(
            true, inferred[name][0], ".", color=color, markersize=2, alpha=0.25, rasterized=True
        )
        above.axline((1, 1), slope=1, color="0.1", linewidth=1, label="inferred = true")
        above.set(title=NAMES[name], xlabel="true loss (nats)")
        above.legend(loc="upper left", fontsize=8)
        _draw_errors(below, errors[name], bins, color)
        if ours:
            below.hist(
                errors[ours],
                bins,
                density=True,
                histtype="step",
                color="0.1",
                linewidth=1.2,
                label=f"ours: {NAMES[ours]}",
            )
        below.legend(loc="upper left", fontsize=8)
    axes[1, 0].set_ylim(top=1.3 * axes[1, 0].get_ylim()[1])  # for the legends
    axes[0, 0].set_xlim(*np.quantile(true, (0, 0.999)))
    axes[0, 0].set_ylim(
        *np.quantile(np.stack([inferred[name][0] for name in COLUMNS]), (0.0005, 0.9995))
    )
    axes[0, 0].set(ylabel="inferred loss (nats)")
    axes[1, 0].set(ylabel="density")
    return figure


def _draw_errors(axes: Axes, errors: np.ndarray, bins: list[float], color: str) -> None:
    axes.hist(errors, bins, density=True, color=color, alpha=0.6)
    low, median, high = np.quantile(errors, QUANTILES)
    axes.axvline(0, color="0.1", linewidth=1)
    axes.axvline(median, color=color, linestyle="--", label=f"median {median:+.3f}")
    axes.axvspan(
        low, high, color=color, alpha=0.12, linewidth=0, label=f"90 %: {low:+.3f} to {high:+.3f}"
    )
    axes.set(xlabel="inferred − true loss (nats), all sets")


if __name__ == "__main__":
    launch.main(run)
