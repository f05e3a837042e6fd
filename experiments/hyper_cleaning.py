"""Data hyper-cleaning: half the training labels are wrong, and each image has a weight to tune.

Each method tunes the weights of all training images by the loss of the validation images, at one
budget of gradients. What it gives a weight of one half or more is kept, and a model trained on it
and the validation images from scratch; or on all images, by their weights. The rivals tune nothing.

python -m experiments.hyper_cleaning --config=configs/hyper_cleaning.py --workdir=DIR
"""

import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from experiments import (
    _cleaning_contenders,
    _decay_problem,
    _hyper_cleaning_plot,
    _launch,
    _noisy_labels,
    _plots,
    _results,
)
from experiments._cleaning_contenders import JUDGED, Contender
from experiments._noisy_labels import KEPT, Found
from shohypernet.batches import Data

NAME = "hyper_cleaning"
ALL, BOTH, ALONE, ORACLE, FILTER = (
    "all training images",
    "training and validation images",
    "validation images alone",
    "oracle",
    "filter by validation images",
)


class Outcome(NamedTuple):
    """One recipe on one seed's labels.

    Attributes:
      accuracy: on the test images, of a model trained from scratch on what the recipe keeps.
      weighted_accuracy: likewise, of one that was trained on all images by their weights; NaN for
        rivals, as all that follows.
      tuned_accuracy: of the model as the tuning left it, which never trains on validation images.
      found: F1 and AUC of the wrong labels that it found.
      passes: gradients of all training images that finding them took.
      seconds: that it took, compilation apart.
    """

    accuracy: float
    weighted_accuracy: float = np.nan
    tuned_accuracy: float = np.nan
    found: Found = Found(np.nan, np.nan)
    passes: float = np.nan
    seconds: float = np.nan


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Corrupt, tune, train again, and compare on the test images, for each seed."""
    clean = _decay_problem.load_data(config)
    outcomes: dict[str, list[Outcome]] = {}
    tuned: dict[str, shn.Result] = {}
    wrong = np.zeros(0, bool)
    for seed in config.seeds:
        data, wrong = _noisy_labels.corrupted(clean, seed)
        for name, each in rivals(data, wrong, config).items():
            outcomes.setdefault(name, []).append(each)
        for name, contender in _cleaning_contenders.contenders(config).items():
            folder = workdir / "fit" / f"{name}, seed {seed}"
            print(f"Labels of seed {seed}: {name}, {contender.rounds:,} rounds.")
            tuned[name] = _tuned(contender, data, config, seed, folder, resume=resume)
            made = _judged(contender, tuned[name], data, wrong, config)
            outcomes.setdefault(name, []).append(made)

    # Of the last seed, whose labels they are.
    paths = {name: _found_on_the_way(each, wrong) for name, each in tuned.items()}
    weights = np.asarray(tuned[JUDGED].hyperparams)
    reference = outcomes[FILTER][-1].found.f1
    figure = _hyper_cleaning_plot.draw(outcomes, paths, weights, wrong, reference)
    _plots.save_figure(figure, workdir, NAME)
    arrays = {"wrong": wrong} | {
        f"{name}: weights": each.hyperparams for name, each in tuned.items()
    }
    _results.save_arrays(workdir, NAME, arrays)
    print(table(outcomes))
    return {
        "main": {
            f"accuracy, {name}": [each.accuracy for each in outcomes[name]]
            for name in (JUDGED, FILTER, ORACLE)
        },
        "claims": claims(outcomes),
        "outcomes": {name: [_listed(each) for each in per] for name, per in outcomes.items()},
        "compile_seconds": sum(each.compile_seconds for each in tuned.values()),
    }


def rivals(data: Data, wrong: np.ndarray, config: Any) -> dict[str, Outcome]:
    """Recipes that tune no weights, each with the decay that is best for it by the test images.

    The filter keeps the training images whose label a model of the validation images agrees with.
    """
    train = _noisy_labels.trainer(data, config)
    ones, none = np.ones(len(wrong)), np.zeros(len(wrong))
    judge = train(none, np.ones(len(data.valid.targets)), config.final_decay)
    agrees = _noisy_labels.right(judge, data.train)
    doubts = np.asarray(_noisy_labels.cross_entropies(judge, data.train))
    kept = {
        ALL: (ones, 0),
        BOTH: (ones, 1),
        ALONE: (none, 1),
        ORACLE: (~wrong, 1),
        FILTER: (agrees, 1),
    }
    outcomes = {}
    for name, (of_train, valid) in kept.items():
        of_valid = np.full(len(data.valid.targets), valid)
        models = [train(of_train, of_valid, decay) for decay in config.rival_decays]
        outcomes[name] = Outcome(max(_accuracy(model, data) for model in models))
    found = _noisy_labels.found(~agrees, doubts, wrong)
    outcomes[FILTER] = outcomes[FILTER]._replace(found=found, passes=float(config.train_steps))
    return outcomes


def _tuned(
    contender: Contender, data: Data, config: Any, seed: int, folder: pathlib.Path, *, resume: bool
) -> shn.Result:
    problem = _noisy_labels.build(data.train.inputs.shape[1], config.decay)
    return shn.fit(
        problem,
        contender.build(problem),
        data,
        jnp.full(len(data.train.targets), KEPT),
        steps=contender.rounds,
        seeds=seed,
        eval_every=-(-contender.rounds // config.evaluations),
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
        **contender.sizes,
    )


def _judged(
    contender: Contender, tuned: shn.Result, data: Data, wrong: np.ndarray, config: Any
) -> Outcome:
    weights = np.asarray(tuned.hyperparams)
    of_valid = np.ones(len(data.valid.targets))
    train = _noisy_labels.trainer(data, config)
    kept, weighted = (
        _accuracy(train(each, of_valid, config.final_decay), data)
        for each in (weights >= KEPT, weights)
    )
    evaluations = float(tuned.history.gradient_evaluations[-1])
    return Outcome(
        accuracy=kept,
        weighted_accuracy=weighted,
        tuned_accuracy=_accuracy(tuned.params, data),
        found=_noisy_labels.found(weights < KEPT, -weights, wrong),
        passes=evaluations * contender.images / len(wrong),
        seconds=float(tuned.history.seconds[-1]),
    )


def _accuracy(params: Any, data: Data) -> float:
    return float(_noisy_labels.right(params, data.test).mean())


def _found_on_the_way(tuned: shn.Result, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and F1 at each evaluation after the start."""
    weights = np.asarray(tuned.history.hyperparams)[1:]
    f1 = [_noisy_labels.found(each < KEPT, -each, wrong).f1 for each in weights]
    return np.asarray(tuned.history.seconds)[1:], np.array(f1)


def claims(outcomes: dict[str, list[Outcome]]) -> list[dict[str, Any]]:
    """Claims about one of the methods; the table has all of them."""

    def accuracies(name: str) -> np.ndarray:
        return np.array([each.accuracy for each in outcomes[name]])

    ours, f1 = accuracies(JUDGED), np.array([each.found.f1 for each in outcomes[JUDGED]])
    of_all, of_both, alone = (accuracies(name) for name in (ALL, BOTH, ALONE))
    oracle, filtered = accuracies(ORACLE), accuracies(FILTER)
    rest = np.maximum(np.maximum(of_all, of_both), alone)
    return [
        _results.claim(
            "The wrong labels are found with an F1 of .91 or more, every seed, and what is kept "
            "gives a test accuracy of 90.0 % or more.",
            f"F1 {_range(f1)}, accuracy {_percent(ours)}",
            holds=bool(np.all(f1 >= 0.91) and np.all(ours >= 0.9)),
        ),
        _results.claim(
            "That is above training on all images and above the validation images alone, at the "
            "best decay for each.",
            f"{_percent(ours)} against {_percent(of_all)} with all training images, "
            f"{_percent(of_both)} with the validation images too and {_percent(alone)} with these "
            "alone",
            holds=bool(np.all(ours > rest)),
        ),
        _results.claim(
            "It is beside the oracle, within half a percent.",
            f"{_percent(ours)} against {_percent(oracle)}",
            holds=bool(np.mean(oracle - ours) <= 0.005),
        ),
        _results.claim(
            "No simpler filter does as well: that of a model of the validation images is behind.",
            f"{_percent(ours)} against {_percent(filtered)}",
            holds=bool(np.mean(ours) > np.mean(filtered) and np.all(ours >= filtered)),
        ),
    ]


def table(outcomes: dict[str, list[Outcome]]) -> str:
    """Means over seeds, as a table in plain text."""
    head = ["test accuracies, %", "kept", "weighted", "as tuned", "F1", "AUC", "passes", "seconds"]
    rows = []
    for name, each in outcomes.items():
        weighted, tuned, passes, seconds = (
            float(np.mean([getattr(one, field) for one in each]))
            for field in ("weighted_accuracy", "tuned_accuracy", "passes", "seconds")
        )
        f1, auc = np.mean([one.found for one in each], axis=0)
        numbers = [
            *(f"{100 * each:.2f}" for each in (weighted, tuned)),
            *(f"{each:.3f}" for each in (f1, auc)),
            f"{passes:.0f}",
            f"{seconds:.1f}",
        ]
        accuracies = _percent(np.array([one.accuracy for one in each]))
        rows.append([name, accuracies, *("-" if text == "nan" else text for text in numbers)])
    return _results.table(head, rows)


def _percent(values: np.ndarray) -> str:
    each = 100 * values
    return f"{each.mean():.2f} % ({each.min():.2f} to {each.max():.2f})"


def _range(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def _listed(outcome: Outcome) -> dict[str, Any]:
    """The fields that are numbers, for JSON has no NaN."""
    flat = outcome._asdict() | outcome.found._asdict()
    del flat["found"]
    return {name: value for name, value in flat.items() if np.isfinite(value)}


if __name__ == "__main__":
    _launch.main(run)
