"""Architectures ranked by a hypernet that makes the weights of any of them (SMASH).

λ is an architecture (`_architectures`). Hypernets learn to make weights for random ones, and the
loss of these weights ranks networks that are trained to the end. Beside it: hypernets that read the
encodings of other architectures than they make weights for, and the number of weights alone. Then
the best of many by the hypernet is trained, against random search that costs no less.

python -m experiments.smash --config=configs/smash.py --workdir=DIR
"""

import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import (
    _architectures,
    _decay_problem,
    _launch,
    _plots,
    _rankings,
    _results,
    _smash_hypernet,
    _smash_networks,
    _smash_plot,
)
from experiments._rankings import Rankings
from experiments._smash_networks import Cost, Losses
from experiments._smash_plot import HYPERNET, SHUFFLED, SIZE

NAME = "smash"


class Search(NamedTuple):
    """The best candidate by the hypernet of each seed, and random search at no less compute.

    Attributes:
      found: losses of the best candidates, trained to the end; arrays (seeds, hypernets).
      cost: of a hypernet, the candidates' losses, and training the best.
      due: networks that cost no less to train, by gradients and by seconds.
      random: test loss of random search with each seed, by each number of networks that is due, or
        all that were trained if these are fewer; in the mean over all choices of so many, (seeds,).
    """

    found: Losses
    cost: Cost
    due: tuple[int, int]
    random: tuple[np.ndarray, np.ndarray]


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train hypernets and networks, compare their losses, and search by either."""
    space = _architectures.build_space(config.widths, config.kernels, config.blocks)
    problem, data = _architectures.problem(space), _decay_problem.load_data(config)
    pool = _architectures.distinct(space, jax.random.key(0), config.architectures)
    candidates = _architectures.distinct(space, jax.random.key(1), config.candidates)

    scores, best, cost = {}, [], Cost(0, 0)
    for name in (HYPERNET, SHUFFLED):
        print(f"{name}: {config.rounds * config.inner_steps:,} steps, seeds {config.seeds}.")
        hypernet = _smash_hypernet.build(space, config, shuffled=name == SHUFFLED)
        fitted = _smash_hypernet.fit(
            problem, hypernet, space, data, pool[0], config, workdir / "fit" / name, resume=resume
        )
        phis = [fitted.seed(i).state.hypernet_params for i, _ in enumerate(config.seeds)]
        score = _smash_networks.scorer(problem, hypernet, phis, data.valid)
        scores[name] = score(pool)
        if name == HYPERNET:
            began = time.perf_counter()
            best = [candidates[i] for i in np.argmin(score(candidates), axis=1)]
            seconds = fitted.history.seconds[-1] + time.perf_counter() - began
            cost = hypernet_cost(seconds, config)
    scores[SIZE] = -np.array([[_architectures.size(space, each) for each in pool]], float)

    print(f"Training {len(pool)} architectures to the end, and the best of {len(candidates)}.")
    losses, each = _smash_networks.train(space, data, pool, config)
    found, _ = _smash_networks.train(space, data, best, config)
    searched = search(losses, found, cost, each)
    rankings = _rankings.rankings(losses.test.mean(0), scores, config.resamples)

    figure = _smash_plot.draw(losses.test, scores, rankings, found.test, searched.random[1])
    _plots.save_figure(figure, workdir, NAME)
    _results.save_arrays(workdir, NAME, arrays(pool, best, losses, found) | scores)
    print(table(rankings))
    return {
        "main": {f"ρ, {name}": rankings.interval(name)[0] for name in scores}
        | {"test loss, found": float(found.test.mean())}
        | {"test loss, random search": float(searched.random[1].mean())},
        "claims": claims(rankings, searched, len(candidates), len(pool)),
        "intervals": {name: rankings.interval(name) for name in scores},
        "each": _results.listed(rankings.each),
        "agreement": _rankings.agreement(losses.test),
        "errors": {"pool": losses.error.tolist(), "found": found.error.tolist()},
        "costs": {"search": searched.cost._asdict(), "one network": each._asdict()},
        "random": {"due": searched.due, "test_losses": _results.listed(searched.random)},
    }


def hypernet_cost(seconds: float, config: Any) -> Cost:
    """Cost of one hypernet and its losses of the candidates, without compilation.

    Args:
      seconds: of both, for all seeds.
      config: of the experiment. A loss without a gradient counts for a third of one.
    """
    forward = config.candidates * config.valid_examples / config.batch_size / 3
    gradients = config.rounds * config.inner_steps * config.samples + forward
    return Cost(gradients, seconds / len(config.seeds))


def search(losses: Losses, found: Losses, cost: Cost, each: Cost) -> Search:
    """Random search with as many networks as cost no less, in gradients and in seconds.

    Args:
      losses: of random architectures, trained to the end.
      found: of the best candidates.
      cost: of a hypernet, with the losses of its candidates.
      each: of training one network.
    """
    cost = Cost(*(a + b for a, b in zip(cost, each, strict=True)))
    by_gradients, by_seconds = (math.ceil(a / b) for a, b in zip(cost, each, strict=True))

    def random(due: int) -> np.ndarray:
        count = min(due, losses.test.shape[1])
        per_seed = zip(losses.valid, losses.test, strict=True)
        return np.array([_rankings.best_of(*both, count) for both in per_seed])

    return Search(
        found, cost, (by_gradients, by_seconds), (random(by_gradients), random(by_seconds))
    )


def claims(
    rankings: Rankings, searched: Search, candidates: int, networks: int
) -> list[dict[str, Any]]:
    """Claims about ranks on the test images, and about the search.

    Fewer random networks than are due can refute the last one, and not confirm it.
    """
    found, random = searched.found.test.mean(1), searched.random
    lower = all(found.mean() < each.mean() for each in random)
    enough = max(searched.due) <= networks
    against = (
        f"{_results.mean_and_range(each, 3)} with {min(due, networks)} networks of {due}, by {unit}"
        for due, each, unit in zip(searched.due, random, Cost._fields, strict=True)
    )
    above = {name: rankings.interval(HYPERNET, less=name) for name in (SHUFFLED, SIZE)}
    alone = rankings.interval(HYPERNET)
    return [
        _results.claim(
            "The loss of a hypernet's weights ranks architectures as training to the end does: "
            "Spearman's ρ is above 0.",
            f"ρ {_interval(alone)}",
            holds=alone[1] > 0,
        ),
        _results.claim(
            "It ranks them better than a hypernet with shuffled encodings.",
            f"ρ is larger by {_interval(above[SHUFFLED])}",
            holds=above[SHUFFLED][1] > 0,
        ),
        _results.claim(
            "It ranks them better than their numbers of weights do.",
            f"ρ is larger by {_interval(above[SIZE])}",
            holds=above[SIZE][1] > 0,
        ),
        _results.claim(
            f"The best of {candidates} by the hypernet, trained to the end, has a lower test loss "
            "than random search at no less compute, on average.",
            f"{_results.mean_and_range(found, 3)} against {' and '.join(against)}",
            holds=lower if enough or not lower else None,
        ),
    ]


def table(rankings: Rankings) -> str:
    """Spearman's ρ of each predictor with the test loss after training, as plain text."""
    rows = [
        [name, _interval(rankings.interval(name)), _results.mean_and_range(each, 2)]
        for name, each in rankings.each.items()
    ]
    return _results.table(["", "ρ, 95 % interval", "ρ by seeds"], rows)


def arrays(pool: Any, best: Any, losses: Losses, found: Losses) -> dict[str, Any]:
    """All architectures and losses, as they are saved."""
    return {
        f"{name}: {field}": np.stack(value) if isinstance(tree, list) else value
        for name, tree in {"pool": pool, "best": best, "trained": losses, "found": found}.items()
        for field, value in _fields(tree).items()
    }


def _fields(tree: Any) -> dict[str, Any]:
    """Fields of a tuple, or those of a list of them in lists."""
    if not isinstance(tree, list):
        return tree._asdict()
    return {field: [getattr(each, field) for each in tree] for field in tree[0]._fields}


def _interval(of: tuple[float, float, float]) -> str:
    mean, low, high = of
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    _launch.main(run)
