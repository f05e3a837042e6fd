"""A hypernet followed by a few steps of SGD, beside the hypernet alone and the steps alone.

Every contender tunes one decay for each weight, from the same decay, on minibatches of the same
size and for the same number of gradient evaluations. Its two step sizes are chosen by the same
search on validation, of a quarter of that length, before.

python -m experiments.unrolled_response --config=configs/unrolled_response.py --workdir=DIR
"""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _hyper_training, _launch, _plots, _results
from experiments._unrolled_contenders import Method
from experiments._unrolled_step_sizes import Chosen, tune
from shohypernet.datasets import CLASSES
from shohypernet.problem import Problem

NAME = "unrolled_response"
ALONE, WITH_STEPS, STEPS = "hypernet alone", "hypernet, then steps", "steps alone (truncated)"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune each network's decays by every contender, and draw the losses against their cost."""
    data = _decay_problem.load_data(config)
    found: dict[str, dict[str, Chosen]] = {}
    for hidden in config.networks:
        widths = tuple(int(width) for width in hidden.split("-") if width)
        network = "-".join(map(str, (data.train.inputs.shape[1], *widths, CLASSES)))
        problem = _decay_problem.problem_on(data, widths, config.init_scale)
        start = _decay_problem.decays(problem, config.start, "weight")
        found[network] = {}
        for name, method in contenders(problem, config).items():
            folder = workdir / f"{network}_{name.partition(' (')[0].replace(', ', '_')}"
            chosen = tune(problem, method, data, start, config, folder, resume=resume)
            found[network][name] = chosen
            print(f"{network}, {name}: {_shown(chosen)}", flush=True)

    _plots.save_figure(draw(found), workdir, NAME)
    _results.save_arrays(workdir, NAME, _arrays(found))
    return {
        "main": {
            f"{network}, {name}": each.result.history.valid_loss[-1].tolist()
            for network, chosen in found.items()
            for name, each in chosen.items()
        },
        "claims": [claim for network, chosen in found.items() for claim in claims(network, chosen)],
        "order": _decay_problem.described(config),
        "networks": {
            network: {name: _summary(each) for name, each in chosen.items()}
            for network, chosen in found.items()
        },
    }


def contenders(problem: Problem, config: Any) -> dict[str, Method]:
    """The hypernet alone, with steps behind it, and the steps without it."""
    rounds, steps = config.inner_steps, config.unrolled_steps
    hypernet = _hyper_training.from_start(
        shn.hypernets.factorized(init_scale=config.init_scale), config.start
    )
    sampled: dict[str, Any] = {
        "sampler": shn.samplers.local_gaussian(config.sampling_scale),
        "samples": config.samples,
    }

    def optimizer_of(hyper_rate: Any) -> optax.GradientTransformation:
        return optax.adam(hyper_rate, eps=_hyper_training.HYPER_EPSILON)

    def alone(inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
        return shn.local_response(
            problem,
            hypernet,
            hypernet_optimizer=optax.adam(inner_rate),
            hyper_optimizer=optimizer_of(hyper_rate),
            **sampled,
        )

    def with_steps(inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
        return shn.unrolled_response(
            problem,
            hypernet,
            optimizer=optax.sgd(config.learning_rate),
            unrolled_steps=steps,
            hypernet_optimizer=optax.adam(inner_rate),
            hyper_optimizer=optimizer_of(hyper_rate),
            **sampled,
        )

    def truncated(inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
        return shn.truncated(
            problem,
            optimizer=optax.sgd(inner_rate),
            hyper_optimizer=optimizer_of(hyper_rate),
            backward_steps=steps,
            segment=steps,
        )

    trained = config.samples * rounds
    costs = {ALONE: trained + 1, WITH_STEPS: trained + 3 * steps + 1, STEPS: rounds + 2 * steps + 1}
    builders = {
        ALONE: (alone, config.hypernet_rates),
        WITH_STEPS: (with_steps, config.hypernet_rates),
        STEPS: (truncated, config.inner_rates),
    }
    return {
        name: Method(build, rounds, rates, lambda budget, each=costs[name]: budget // each)
        for name, (build, rates) in builders.items()
    }


def claims(network: str, chosen: dict[str, Chosen]) -> list[dict[str, Any]]:
    """Claims about the ends of the runs, at equal gradient evaluations and at equal seconds."""
    histories = {name: each.result.history for name, each in chosen.items()}
    ends = {name: float(each.valid_loss[-1].mean()) for name, each in histories.items()}
    tests = {name: float(each.test_loss[-1].mean()) for name, each in histories.items()}
    seconds = min(histories[name].seconds[-1] for name in (ALONE, WITH_STEPS))
    by_then = {
        name: float(np.interp(seconds, histories[name].seconds, histories[name].valid_loss.mean(1)))
        for name in (ALONE, WITH_STEPS)
    }
    return [
        _results.claim(
            f"{network}: with steps behind it the hypernet ends below the hypernet alone, on "
            "validation, at as many gradient evaluations.",
            "; ".join(f"{name} {ends[name]:.5f} (test {tests[name]:.5f})" for name in ends),
            holds=ends[WITH_STEPS] < ends[ALONE],
        ),
        _results.claim(
            f"{network}: it is below at equal seconds, too.",
            f"after {seconds:.0f} s {by_then[WITH_STEPS]:.5f} against {by_then[ALONE]:.5f}",
            holds=by_then[WITH_STEPS] < by_then[ALONE],
        ),
    ]


def _shown(chosen: Chosen) -> str:
    history = chosen.result.history
    losses = f"{history.valid_loss[-1].mean():.5f} / {history.test_loss[-1].mean():.5f}"
    return (
        f"step sizes {chosen.inner_rate:g}, {chosen.hyper_rate:g}, validation / test {losses}, "
        f"{history.seconds[-1]:.0f} s"
    )


def _summary(chosen: Chosen) -> dict[str, Any]:
    history = chosen.result.history
    return {
        "inner_step_size": chosen.inner_rate,
        "hyper_step_size": chosen.hyper_rate,
        "better_pairs_that_diverged_later": chosen.diverged,
        "seconds": float(history.seconds[-1]),
        "gradient_evaluations": int(history.gradient_evaluations[-1].mean()),
        "valid_loss": history.valid_loss[-1].tolist(),
        "test_loss": history.test_loss[-1].tolist(),
    }


def _arrays(found: dict[str, dict[str, Chosen]]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for network, chosen in found.items():
        for name, each in chosen.items():
            arrays |= _results.history_arrays(f"{network}, {name}", each.result.history)
    return arrays


def draw(found: dict[str, dict[str, Chosen]]) -> Figure:
    """Validation loss of each network (rows) against seconds and gradient evaluations."""
    figure, axes = plt.subplots(
        len(found), 2, figsize=(10, 3.6 * len(found) + 0.6), sharey="row", squeeze=False
    )
    for row, (network, chosen) in zip(axes, found.items(), strict=True):
        looks = zip(_plots.COLORS, "osD", chosen.items(), strict=False)
        for color, mark, (name, each) in looks:
            history = each.result.history
            for panel, cost in zip(row, _plots.costs(history), strict=True):
                look = {"color": color, "marker": mark, "markersize": 3.5}
                _plots.seed_line(panel, cost, history.valid_loss, name, **look)
        row[0].set(yscale="log", ylabel=f"validation loss (MSE), {network}")
    axes[-1, 0].set_xlabel("seconds, all seeds at once")
    axes[-1, 1].set_xlabel("gradient evaluations per seed")
    _plots.legend_below(figure, axes[0, 0], columns=3)
    return figure


if __name__ == "__main__":
    _launch.main(run)
