"""Seven hyperparameters of an LSTM on characters tuned in one run, beside searches.

Four dropouts, DropConnect and two penalties of activations (`_regularized_lstm`) start from next to
nothing and are tuned by Delta-STN (`self_tuning`) while the network trains. Every method's choice
is trained again from new weights, on training and validation text together, and tested.

python -m experiments.self_tuning_text --config=configs/self_tuning_text.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _launch, _plots, _results, _self_tuned, _text
from experiments._regularized_lstm import (
    build,
    optimizer,
    retrainer,
    sequences,
    without_regularization,
)

NAME = "self_tuning_text"
OFF, TUNED, SCHEDULE = "no regularization", "self-tuning", "self-tuning, its schedule"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune, search, train every recipe again, and compare bits per character."""
    text = _text.load(config)
    data, problem = sequences(text, config), build(text, config)
    alpha = optimizer(config, config.rounds * config.inner_steps)
    tuned = _self_tuned.tune(
        problem,
        data,
        config,
        workdir / "fit",
        alpha,
        resume=resume,
        examples_per_draw=config.examples_per_draw,
    )
    of_trials = optimizer(config, config.train_steps)
    searched = _self_tuned.search(problem, data, config, of_trials, tuned)
    recipes = {
        OFF: [without_regularization(problem) for _ in config.seeds],
        **{name: _self_tuned.of_seeds(each, config) for name, each in searched.items()},
        TUNED: _self_tuned.of_seeds(tuned, config),
        SCHEDULE: [tuned.seed(i).history for i, _ in enumerate(config.seeds)],
    }
    print("Training again from new weights, on training and validation text together.")
    retrain = retrainer(problem, data, config)
    test = {
        name: np.array([retrain(*pair) for pair in zip(config.seeds, of_seeds, strict=True)])
        for name, of_seeds in recipes.items()
    }
    valid = {TUNED: tuned.history.valid_loss[-1] / np.log(2)}
    valid |= {name: np.asarray(each.valid_loss) / np.log(2) for name, each in searched.items()}
    own, of_searches = _self_tuned.costs(tuned, searched, config)
    costs = {OFF: (0, 0.0), **of_searches, TUNED: own, SCHEDULE: own}

    _plots.save_figure(draw(tuned.history, test), workdir, NAME)
    arrays = _results.history_arrays(TUNED, tuned.history)
    paths = jax.tree.leaves_with_path(tuned.history.hyperparams)
    arrays |= {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}
    _results.save_arrays(workdir, NAME, arrays)
    head = ["bits per character", "validation", "test, trained again", "gradients", "seconds"]
    rows = [
        [
            name,
            _results.mean_and_range(valid[name], 3) if name in valid else "",
            _results.mean_and_range(each, 3),
            f"{costs[name][0]:,}",
            f"{costs[name][1]:.0f}",
        ]
        for name, each in test.items()
    ]
    print(_results.table(head, rows))
    return {
        "main": {f"test, {name}": each.tolist() for name, each in test.items()},
        "claims": claims(valid, test),
        "valid": _results.listed(valid),
        "costs": costs,
        "hyperparams": {
            name: _results.listed(each) for name, each in recipes.items() if name != SCHEDULE
        },
    }


def claims(valid: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Claims about means over seeds, in bits per character."""
    searches = [name for name in valid if name != TUNED]
    schedules = min(test[TUNED].mean(), test[SCHEDULE].mean())
    return [
        _results.claim(
            "On the validation text the run needs fewer bits per character than each search.",
            "; ".join(f"{name} {_range(each)}" for name, each in valid.items()),
            holds=all(valid[TUNED].mean() < valid[name].mean() for name in searches),
        ),
        _results.claim(
            "Trained again on all text, as it ends or by its schedule, it needs no more on the "
            "test text than each search's choice.",
            "; ".join(f"{name} {_range(each)}" for name, each in test.items() if name != OFF),
            holds=all(schedules <= test[name].mean() for name in searches),
        ),
        _results.claim(
            "Trained again on all text, it needs fewer than without regularization.",
            f"{TUNED} {_range(test[TUNED])} against {_range(test[OFF])}",
            holds=bool(np.all(test[TUNED] < test[OFF])),
        ),
    ]


def draw(history: shn.History, test: dict[str, np.ndarray]) -> Figure:
    """Paths of the hyperparameters, the losses of the run, and networks that were trained again."""
    figure, (rates, strengths, losses, ends) = plt.subplots(1, 4, figsize=(17, 4.4))
    for path, values in jax.tree.leaves_with_path(history.hyperparams):
        label = jax.tree_util.keystr(path, simple=True, separator=" ")
        panel = strengths if "penalty" in label else rates
        values = np.asarray(values)
        (line,) = panel.plot(history.step, values.mean(1), label=label.replace("_", " "))
        low, high = values.min(1), values.max(1)
        panel.fill_between(history.step, low, high, alpha=0.15, color=line.get_color())
    rates.set(xlabel="rounds", title="Dropout and DropConnect", ylabel="rate")
    strengths.set(xlabel="rounds", title="Penalties of activations", yscale="log")
    for split in ("valid_loss_on_train", "valid_loss", "test_loss"):
        bits = getattr(history, split)[1:].mean(1) / np.log(2)
        losses.plot(history.step[1:], bits, label=split.replace("_", " "))
    losses.set(xlabel="rounds", title="Losses of the run", ylabel="bits per character")
    for panel in (rates, strengths, losses):
        panel.legend(fontsize=8)
    for i, values in enumerate(test.values()):
        ends.plot(np.full(len(values), i), values, "o", color=f"C{i}", alpha=0.6)
        ends.hlines(values.mean(), i - 0.25, i + 0.25, color=f"C{i}", linewidth=2.5)
    ends.set_xticks(range(len(test)), test, rotation=25, ha="right")
    ends.set(ylabel="bits per character", title="Test, trained again on all text")
    return figure


def _range(values: np.ndarray) -> str:
    return _results.mean_and_range(values, 3)


if __name__ == "__main__":
    _launch.main(run)
