"""How well scores rank trained networks, by Spearman's ρ; and what random search finds of them."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats


class Rankings(NamedTuple):
    """Spearman's ρ of the scores of some predictors with the losses of trained networks.

    Attributes:
      each: ρ of each of a predictor's runs, by its name, shape (runs,).
      drawn: their mean on networks that are drawn anew with replacement, by name, (resamples,).
    """

    each: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]

    def interval(self, name: str, less: str | None = None) -> tuple[float, float, float]:
        """The mean ρ of a predictor, or its difference to another's, and its 95 % interval."""
        mean, drawn = self.each[name].mean(), self.drawn[name]
        if less:
            mean, drawn = mean - self.each[less].mean(), drawn - self.drawn[less]
        low, high = np.percentile(drawn, (2.5, 97.5))
        return float(mean), float(low), float(high)


def rankings(
    losses: np.ndarray, scores: Mapping[str, np.ndarray], resamples: int, seed: int = 0
) -> Rankings:
    """Rank correlations, with a bootstrap over the networks.

    Args:
      losses: of the trained networks, shape (networks,).
      scores: of the same networks by each run of a predictor, by name, shape (runs, networks);
        two runs or more in total.
      resamples: of the bootstrap. All predictors see the same ones, so that differences are paired.
      seed: of the bootstrap.
    """
    columns = np.vstack([losses, *scores.values()]).T
    cuts = np.cumsum([len(each) for each in scores.values()])[:-1]
    rng = np.random.default_rng(seed)

    def correlations(rows: np.ndarray) -> dict[str, np.ndarray]:
        with_losses = _spearman(columns[rows])[0, 1:]
        return dict(zip(scores, np.split(with_losses, cuts), strict=True))

    count = len(losses)
    drawn = [correlations(rng.integers(count, size=count)) for _ in range(resamples)]
    return Rankings(
        each=correlations(np.arange(count)),
        drawn={name: np.array([each[name].mean() for each in drawn]) for name in scores},
    )


def agreement(losses: np.ndarray) -> float:
    """Mean ρ of two runs of all networks: what noise leaves to a predictor; losses (runs, n)."""
    pairs = itertools.combinations(losses, 2)
    return float(np.mean([_spearman(np.stack(pair, axis=1)) for pair in pairs]))


def _spearman(columns: np.ndarray) -> np.ndarray:
    """ρ of each column with each other; of two columns, a scalar."""
    found: Any = stats.spearmanr(columns)
    return np.asarray(found.statistic)


def best_of(chosen_by: np.ndarray, judged_by: np.ndarray, count: int) -> float:
    """Mean judgement of the best of `count` networks, over all choices of so many from the pool.

    Args:
      chosen_by: loss by which the best is chosen, shape (networks,).
      judged_by: loss that it is judged by, likewise.
      count: of networks that random search trains, at most as many as there are.
    """
    total = len(chosen_by)
    # The network of rank r is the best of a choice if all others are from those behind it.
    ways = [math.comb(total - 1 - rank, count - 1) for rank in range(total)]
    return float(np.dot(ways, judged_by[np.argsort(chosen_by)]) / math.comb(total, count))
