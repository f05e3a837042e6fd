"""Figure 4 (top) of the paper: 7,850 decays tuned by hyper-training and by its rivals.

Every method tunes the same linear model from the same decay, with minibatches of the same sizes and
for the same number of gradient evaluations. Its two step sizes are chosen by the same search on
validation, of a quarter of that length, before. If the whole run then diverges, as λ may go where
the inner step size is too large, the next best pair is taken, and results.json says so.

python -m experiments.unrolled_comparison --config=configs/unrolled_comparison.py --workdir=DIR
"""

import itertools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import shohypernet as shn
from experiments import decay_problem, hyper_training, launch, report
from experiments.decay_problem import Reference
from shohypernet import ridge
from shohypernet.batches import CLASSES, Data, minibatch
from shohypernet.fitting._driver import NonFiniteLoss
from shohypernet.linear_solvers import conjugate_gradient, identity, neumann
from shohypernet.problem import Problem

MOMENTUM = 0.9
DIVERGED = 2.0  # times the loss of the first weights
CENTRED, HYPERNET, UNROLLED = "centered hyper-training", "hyper-training", "unrolled"
MARKS = "osD^vP*Xh"
SPLITS = {"valid": "validation", "test": "test"}


class Method(NamedTuple):
    """A contender.

    Attributes:
      build: `build(problem, inner_rate, hyper_rate) -> HyperOptimizer`, of step sizes that may be
        traced.
      inner_steps: in each of its rounds.
      inner_rates: the step sizes of the weights, or of φ, that are tried.
      rounds: how many of them a budget of gradient evaluations has room for.
    """

    build: Callable[[Problem, Any, Any], shn.HyperOptimizer]
    inner_steps: int
    inner_rates: tuple[float, ...]
    rounds: Callable[[int], int]


class Tuned(NamedTuple):
    """A method's step sizes, as the search found them, and the run with them.

    Attributes:
      inner_rate: of the weights, or of φ.
      hyper_rate: of λ.
      diverged: how many pairs did better in the search, but diverged later.
      result: of `fit`, for all seeds.
      exact: G of the best response to the final λ, one a seed: how good the decays are,
        whatever the method's own weights.
    """

    inner_rate: float
    hyper_rate: float
    diverged: int
    result: shn.Result
    exact: np.ndarray


def methods(config: Any) -> dict[str, Method]:
    """The contenders that the config names; anything that makes a HyperOptimizer can join."""
    steps, unrolled = config.inner_steps, config.unrolled_steps

    def gradient_method(
        build: Callable[..., shn.HyperOptimizer], inner_steps: int, evaluations: int, **options: Any
    ) -> Method:
        def method(problem: Problem, inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
            return build(
                problem,
                optimizer=optax.sgd(inner_rate, momentum=MOMENTUM),
                hyper_optimizer=_hyper_optimizer(hyper_rate),
                **options,
            )

        return Method(method, inner_steps, config.inner_rates, lambda budget: budget // evaluations)

    def implicit(solver: Any, products: int) -> Method:
        evaluations = steps + 2 + 2 * products
        return gradient_method(shn.implicit, steps, evaluations, solver=solver)

    products = config.products
    series = neumann(products, config.neumann_step_size)
    known = {
        CENTRED: Method(
            _centered,
            steps,
            config.centered_rates,
            lambda budget: hyper_training.tuned_rounds(budget, steps, config.batch_size, CLASSES),
        ),
        HYPERNET: Method(
            _hyper_training(config),
            steps,
            config.hypernet_rates,
            lambda budget: budget // (2 * steps + 1),
        ),
        UNROLLED: gradient_method(shn.unrolled, unrolled, 3 * unrolled + 1, segment=unrolled),
        "truncated": gradient_method(
            shn.truncated, steps, 3 * steps + 1, backward_steps=steps, segment=steps
        ),
        "implicit, CG": implicit(conjugate_gradient(products), products),
        "implicit, Neumann": implicit(series, products),
        "T1-T2": implicit(identity(), 0),
        "DrMAD": gradient_method(shn.drmad, unrolled, 3 * unrolled + 1),
    }
    strangers = set(config.methods) - known.keys()
    if strangers or not {HYPERNET, UNROLLED} <= set(config.methods):
        raise ValueError(
            f"methods must be some of {sorted(known)}, with {HYPERNET!r} and {UNROLLED!r} among "
            f"them; got {config.methods}."
        )
    return {name: known[name] for name in config.methods}


def _hyper_optimizer(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adam(learning_rate, eps=hyper_training.HYPER_EPSILON)


def _centered(problem: Problem, inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
    return shn.centered_response(
        problem,
        shn.jacobians.kronecker(problem),
        optimizer=optax.adam(inner_rate),
        hyper_optimizer=_hyper_optimizer(hyper_rate),
    )


def _hyper_training(config: Any) -> Callable[[Problem, Any, Any], shn.HyperOptimizer]:
    def build(problem: Problem, inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
        weights = jax.eval_shape(problem.init, jax.random.key(0))
        return shn.local_response(
            problem,
            shn.hypernets.factorized(weights),
            hypernet_optimizer=optax.adam(inner_rate),
            hyper_optimizer=_hyper_optimizer(hyper_rate),
            sampler=shn.hyperparameters.local_gaussian(config.sampling_scale),
            samples=2,
        )

    return build


def search(
    problem: Problem, method: Method, data: Data, start: Any, config: Any
) -> list[tuple[float, float]]:
    """Pairs of step sizes, those first whose weights validate best after a short run.

    All runs are one call; pairs that diverged are left out.
    """
    pairs = list(itertools.product(method.inner_rates, config.hyper_rates))
    rounds = method.rounds(config.search_evaluations)

    def last_loss(data: Data, inner_rate: jax.Array, hyper_rate: jax.Array) -> jax.Array:
        tuner = method.build(problem, inner_rate, hyper_rate)

        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            key_train, key_valid, key_step = jax.random.split(key, 3)
            size = method.inner_steps, config.batch_size
            train_batches = minibatch(key_train, data.train, size)
            valid_batch = minibatch(key_valid, data.valid, config.batch_size)
            return tuner.step(key_step, state, train_batches, valid_batch)[0], None

        key_init, key_steps = jax.random.split(jax.random.key(config.search_seed))
        state = tuner.init(key_init, start)
        state, _ = jax.lax.scan(step, state, jax.random.split(key_steps, rounds))
        return problem.valid_loss(tuner.weights(state), state.hyperparams, data.valid)

    rates = jnp.asarray(pairs)
    losses = np.asarray(jax.jit(jax.vmap(last_loss, (None, 0, 0)))(data, rates[:, 0], rates[:, 1]))
    finite = [n for n in np.argsort(losses) if np.isfinite(losses[n])]
    return [(pairs[n][0], pairs[n][1]) for n in finite]


def tune(
    problem: Problem,
    method: Method,
    data: Data,
    start: Any,
    config: Any,
    folder: pathlib.Path,
    *,
    resume: bool,
) -> tuple[tuple[float, float], shn.Result, int]:
    """The whole run with the best pair of step sizes that it survives, and how many it didn't."""
    pairs = search(problem, method, data, start, config)
    rounds = method.rounds(config.evaluations)
    eval_every = max(1, rounds // config.checkpoints)
    for diverged, (inner_rate, hyper_rate) in enumerate(pairs):
        place = folder.with_name(f"{folder.name}_{inner_rate:g}_{hyper_rate:g}")
        try:
            result = shn.fit(
                problem,
                method.build(problem, inner_rate, hyper_rate),
                data,
                start,
                steps=rounds - rounds % eval_every,
                seeds=config.seeds,
                inner_steps=method.inner_steps,
                train_batch_size=config.batch_size,
                valid_batch_size=config.batch_size,
                eval_every=eval_every,
                workdir=place,
                resume=resume and (place / "run.json").exists(),
                config={"inner_rate": inner_rate, "hyper_rate": hyper_rate},
                progress=False,
            )
        except NonFiniteLoss:
            pass
        else:
            # A loss may be past all use and still finite.
            first, *later = result.history.valid_loss
            if np.all(later <= DIVERGED * first):
                return (inner_rate, hyper_rate), result, diverged
        print(f"{folder.name} diverged with step sizes {inner_rate:g}, {hyper_rate:g}.")
    raise ValueError(
        f"{folder.name} diverged with every pair of step sizes; give smaller ones, not "
        f"{method.inner_rates} and {config.hyper_rates}."
    )


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Searches step sizes, tunes with every method, and draws the losses against their cost."""
    data = decay_problem.load_data(config)
    problem = decay_problem.problem_on(data)
    reference, exact = decay_problem.reference(data), ridge.ridge(data)
    start = decay_problem.log_decays(problem, config.start, "weight")
    tuned: dict[str, Tuned] = {}
    for name, method in methods(config).items():
        folder = workdir / name.replace(", ", "_").replace(" ", "_")
        rates, result, diverged = tune(problem, method, data, start, config, folder, resume=resume)
        gains = _exact_gain(result, reference, exact, len(config.seeds))
        tuned[name] = Tuned(*rates, diverged, result, gains)
        gain = reference.gain(result.history.valid_loss[-1])
        print(
            f"{name:<20} step sizes {rates[0]:g}, {rates[1]:g}  "
            f"{result.history.seconds[-1]:6.1f} s  G {np.mean(gain):6.2f}  "
            f"G of its decays {np.mean(tuned[name].exact):6.2f}",
            flush=True,
        )

    report.save_figure(_draw(tuned, reference), workdir, "unrolled_comparison")
    report.save_arrays(workdir, "unrolled_comparison", _arrays(tuned, reference))
    return {
        "claims": [_claim_faster(tuned), _claim_overfits_less(tuned)],
        "order": f"{config.data}, {config.train_examples:,} + {config.valid_examples:,} examples",
        "best_scalar": reference.scalar_losses._asdict(),
        "exact_path": reference.path[-1]._asdict(),
        "methods": {name: _summary(one, reference) for name, one in tuned.items()},
    }


def _exact_gain(
    result: shn.Result, reference: Reference, exact: ridge.Ridge, seeds: int
) -> np.ndarray:
    gains = []
    for seed in range(seeds):
        decay = jax.tree.map(lambda leaf, seed=seed: np.float64(leaf[seed]), result.hyperparams)
        weights = ridge.best_response(exact, decay_problem.to_ridge(decay))
        gains.append(reference.gain(ridge.losses(exact, weights).valid))
    return np.array(gains)


def _summary(one: Tuned, reference: Reference) -> dict[str, Any]:
    history = one.result.history
    return {
        "inner_step_size": one.inner_rate,
        "hyper_step_size": one.hyper_rate,
        "better_pairs_that_diverged_later": one.diverged,
        "seconds": float(history.seconds[-1]),
        "gradient_evaluations": int(history.gradient_evaluations[-1].mean()),
        "valid_loss": history.valid_loss[-1].tolist(),
        "test_loss": history.test_loss[-1].tolist(),
        "attainable_gain": reference.gain(history.valid_loss[-1]).tolist(),
        "attainable_gain_of_decays": one.exact.tolist(),
    }


def _claim_faster(tuned: dict[str, Tuned]) -> dict[str, Any]:
    """When each first reaches what unrolling has after its first tenth of the time."""
    hypernet, rival = (tuned[name].result.history for name in (HYPERNET, UNROLLED))
    early = rival.seconds[-1] / 10
    losses = [
        float(np.interp(early, history.seconds, history.valid_loss.mean(1)))
        for history in (hypernet, rival)
    ]
    return report.claim(
        "Hyper-training is faster than unrolling at first.",
        f"after {early:.1f} s the validation losses are {losses[0]:.5f} and {losses[1]:.5f}",
        holds=losses[0] < losses[1],
    )


def _claim_overfits_less(tuned: dict[str, Tuned]) -> dict[str, Any]:
    """By how much the test loss ends above the validation loss, on the same images for both."""
    gaps = []
    for name in (HYPERNET, UNROLLED):
        history = tuned[name].result.history
        gaps.append(float((history.test_loss - history.valid_loss)[-1].mean()))
    return report.claim(
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
        fields = one.result.history._asdict()
        del fields["hyperparams"]
        arrays |= {f"{name}: {field}": value for field, value in fields.items()}
    return arrays


def _draw(tuned: dict[str, Tuned], reference: Reference) -> Any:
    figure, axes = plt.subplots(2, 2, figsize=(12, 8.5), sharex="col", sharey="row")
    looks = zip(itertools.product(report.STYLES, report.COLORS), MARKS, strict=False)
    for (name, one), ((style, color), mark) in zip(tuned.items(), looks, strict=False):
        history = one.result.history
        look = {"color": color, "linestyle": style, "marker": mark, "markersize": 4}
        costs = history.seconds, history.gradient_evaluations.mean(1)
        for column, cost in enumerate(costs):
            for row, losses in enumerate((history.valid_loss, history.test_loss)):
                panel = axes[row, column]
                # The first evaluation, of fresh weights, is far above all others.
                panel.plot(cost[1:], losses.mean(1)[1:], **look, linewidth=1, label=name)
                panel.fill_between(
                    cost[1:], losses.min(1)[1:], losses.max(1)[1:], color=color, alpha=0.15
                )
    lines = {
        "best single decay": (reference.scalar_losses, ":"),
        "exact path, 30 steps": (reference.path[-1], "--"),
    }
    for name, (losses, style) in lines.items():
        for row, loss in enumerate((losses.valid, losses.test)):
            for panel in axes[row]:
                panel.axhline(loss, color="0.4", linestyle=style, label=name)
    for row, split in enumerate(("valid", "test")):
        drawn = [getattr(one.result.history, f"{split}_loss").mean(1)[-1] for one in tuned.values()]
        drawn += [getattr(losses, split) for losses, _ in lines.values()]
        # What is learned in the first rounds would leave no room for the rest.
        margin = 0.1 * np.ptp(drawn)
        axes[row, 0].set_ylim(min(drawn) - margin, max(drawn) + 2 * margin)
        axes[row, 0].set_ylabel(f"{SPLITS[split]} loss (MSE)")
    axes[1, 0].set_xlabel("seconds, all seeds at once")
    axes[1, 1].set_xlabel("gradient evaluations a seed")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9
    )
    return figure


if __name__ == "__main__":
    launch.main(run)
