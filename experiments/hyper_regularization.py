"""Hyper-regularization: a prior that holds the decays of a layer together.

784-100-10 with a decay for each weight, log decays λ_i ~ N(m, s²) around the free mean m of their
array (`shn.priors.pooled`). A small s is one decay for all, and a large one leaves each weight its
own. What tuning is worth shows where everybody may train on all images: each λ̂, and each single
decay, is trained again from new weights on training and validation images together. λ̂ is taken as
it is, and in proportion to 1/n, since as the prior of a weight a decay counts once, however many
images there are. The prior, which of the two, and the single decay are chosen by one half of the
test images and judged by the other.

python -m experiments.hyper_regularization --config=configs/hyper_regularization.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _hyper_training, _launch, _network_runs, _plots, _results
from shohypernet.batches import Data
from shohypernet.problem import Problem

NAME = "hyper_regularization"
BY_LAYER, FREE = "one decay for each layer", "no prior"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune under each prior, train again on all images, and compare with single decays."""
    data = _decay_problem.load_data(config)
    problem = _decay_problem.problem_on(data, tuple(config.hidden), config.init_scale)
    everything = _everything(data)
    train = _network_runs.trainer(problem, config.training)
    seeds = jnp.asarray(config.seeds)

    def again(hyperparams: Any, axis: int | None) -> np.ndarray:
        """Losses on all images and both halves of the test images, shape (seeds, 3)."""
        over_seeds = jax.vmap(train, (0, axis, None))
        return _network_runs.timed(over_seeds, seeds, hyperparams, everything).losses

    single = {}
    for decay in config.decays:
        single[decay] = again(jnp.float32(np.exp(decay)), None)
        print(f"one decay of exp({decay:g}), trained on all: {_pair(single[decay])}", flush=True)
    tuned, retrained, over_n = {}, {}, {}
    share = config.train_examples / (config.train_examples + config.valid_examples)
    for scale in config.scales:
        name = _name(scale)
        result = _tune(problem, data, config, scale, workdir / name, resume=resume)
        tuned[name] = np.array([each[-1] for each in _network_runs.losses(result.history)]).T
        retrained[name] = again(result.hyperparams, 0)
        over_n[name] = again(jax.tree.map(lambda decay: share * decay, result.hyperparams), 0)
        found = map(_pair, (tuned[name], retrained[name], over_n[name]))
        print("{}: in the run {}, trained again on all {}, {} over n".format(name, *found))

    _plots.save_figure(_draw(single, tuned, retrained, over_n, config), workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {
            "single": np.stack(list(single.values())),
            "tuned": np.stack(list(tuned.values())),
            "retrained": np.stack(list(retrained.values())),
            "over_n": np.stack(list(over_n.values())),
        },
    )
    return {
        "main": {f"test, trained on all, {name}": _mean(each) for name, each in retrained.items()}
        | {f"test, trained on all, {name}, over n": _mean(each) for name, each in over_n.items()}
        | {f"test, trained on all, exp({name:g})": _mean(each) for name, each in single.items()},
        "claims": [
            _claim(single, retrained | {f"{name}, over n": each for name, each in over_n.items()})
        ],
        "in the run": {name: each.mean(0).tolist() for name, each in tuned.items()},
    }


def _everything(data: Data) -> Data:
    """Training and validation images to train on, one half of the test images to choose by."""
    train = jax.tree.map(lambda *parts: jnp.concatenate(parts), data.train, data.valid)
    half = len(data.test.inputs) // 2
    first, second = (
        jax.tree.map(lambda leaf: leaf[part], data.test)  # noqa: B023
        for part in (slice(half), slice(half, 2 * half))
    )
    return Data(train, first, second)


def _name(scale: float) -> str:
    """The name of a prior by its scale."""
    return {0.0: BY_LAYER, np.inf: FREE}.get(scale, f"a prior of {scale:g}")


def _tune(
    problem: Problem,
    data: Data,
    config: Any,
    scale: float,
    folder: pathlib.Path,
    *,
    resume: bool,
) -> shn.Result:
    grain = "layer" if scale == 0 else "weight"
    start = _decay_problem.decays(problem, config.start, grain)
    prior = None
    if 0 < scale < np.inf:
        examples = config.valid_examples / (2 * config.noise)
        prior = shn.priors.pooled(scale, examples=examples)
    return _hyper_training.fit(
        problem,
        _hyper_training.tuned(problem, config.tuned, prior),
        data,
        start,
        config.tuned,
        folder,
        seeds=config.seeds,
        evaluations=config.evaluations,
        resume=resume,
    )


def _mean(losses: np.ndarray) -> float:
    """Over seeds and both halves of the test images."""
    return float(losses[:, 1:].mean())


def _pair(losses: np.ndarray) -> str:
    return " / ".join(f"{loss:.5f}" for loss in losses.mean(0)[1:])


def _claim(single: dict[float, np.ndarray], retrained: dict[str, np.ndarray]) -> dict[str, Any]:
    """Chosen by the first half of the test images, and judged by the second, seed by seed."""
    names = [name for name in retrained if not name.startswith(BY_LAYER)]
    chosen = min(names, key=lambda name: retrained[name][:, 1].mean())
    decay = min(single, key=lambda decay: single[decay][:, 1].mean())
    ours, rival = retrained[chosen][:, 2], single[decay][:, 2]
    difference = ours - rival
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.inf
    return _results.claim(
        "With a prior, a decay for each weight pays, too, where everybody may train on all images.",
        f"test loss after training again on all: {ours.mean():.5f} ({chosen}) against "
        f"{rival.mean():.5f} (one decay of exp({decay:g})), a difference of "
        f"{difference.mean():+.5f} ± {error:.5f}",
        holds=bool(difference.mean() < -2 * error),
    )


def _draw(
    single: dict[float, np.ndarray],
    tuned: dict[str, np.ndarray],
    retrained: dict[str, np.ndarray],
    over_n: dict[str, np.ndarray],
    config: Any,
) -> Figure:
    figure, axes = plt.subplots(figsize=(6.8, 4.2))
    at = np.arange(len(tuned))
    curves = {
        "validation, in the run": [each[:, 1] for each in tuned.values()],
        "test, in the run": [each[:, 2] for each in tuned.values()],
        "test, trained again on all": [each[:, 1:].mean(1) for each in retrained.values()],
        "the same, decays over n": [each[:, 1:].mean(1) for each in over_n.values()],
    }
    for (label, values), color, style in zip(
        curves.items(), _plots.COLORS, _plots.STYLES, strict=False
    ):
        means = np.array([value.mean() for value in values])
        axes.plot(at, means, color=color, linestyle=style, marker="o", label=label)
        low, high = np.array([[value.min(), value.max()] for value in values]).T
        axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    best = min(map(_mean, single.values()))
    axes.axhline(best, color="0.3", linewidth=1, label="test, one decay, trained on all")
    axes.set_xticks(at, [f"{scale:g}" for scale in config.scales])
    axes.set(
        xlabel="scale of the prior on log decays (0: one for each layer)",
        ylabel="loss",
        title=f"784-{'-'.join(map(str, config.hidden))}-10 on {config.data}",
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


if __name__ == "__main__":
    _launch.main(run)
