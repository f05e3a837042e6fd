"""The claims of `weights_versus_loss`: errors of inferred losses, and what they choose."""

from typing import Any

import numpy as np

from experiments import _results

QUANTILES = (0.05, 0.5, 0.95)
CENTERED = 0.1  # |median| of an error centered on 0, as a part of its 90 % range
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


def summary(true: np.ndarray, inferred: np.ndarray) -> dict[str, list[float]]:
    """Quantiles of the error, and the loss at the best predicted λ, each a list over the sets."""
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


def by_tenths(order: np.ndarray, errors: np.ndarray) -> list[float]:
    """Mean error by tenths of another quantity, from its lowest tenth up; broadcast to errors."""
    ranked = np.take_along_axis(errors, np.argsort(np.broadcast_to(order, errors.shape)), axis=1)
    return [float(part.mean()) for part in np.array_split(ranked, 10, axis=1)]


def claims(
    found: dict[str, dict[str, list[float]]],
    trends: dict[str, list[float]],
    best: float,
    farther: float,
) -> list[dict[str, Any]]:
    """All claims.

    Args:
      found: `summary` of each method.
      trends: mean errors by tenths.
      best: the true best loss of all pairs.
      farther: share of pairs nearer to a set than the one that its process chose.
    """
    medians, ranges, predicted, obtained = (
        {name: np.array(each[field]) for name, each in found.items()}
        for field in ("median", "range_90", "best_predicted", "then_obtained")
    )
    return [
        *_claims_of_signs(medians, trends["process_by_distance"]),
        _claim_centered(medians["stochastic"], ranges["stochastic"], trends),
        _claim_narrowest(ranges),
        _claim_near_best(predicted, obtained, best, farther),
    ]


def _claims_of_signs(
    medians: dict[str, np.ndarray], process_by_distance: list[float]
) -> list[dict[str, Any]]:
    def signed(name: str) -> str:
        values = medians[name]
        return (
            f"the median is {values.mean():+.3f} nats on average over {len(values)} sets of λ, "
            f"from {values.min():+.3f} to {values.max():+.3f}, below 0 in {np.sum(values < 0)}"
        )

    near, far = process_by_distance[0], process_by_distance[-1]
    return [
        _results.claim(
            "The Gaussian process under-predicts (median error below 0, on average).",
            f"{signed('process')}. Its mean error is {near:+.3f} on the tenth of λ nearest to the "
            f"trained ones and {far:+.3f} on the farthest, where its prior mean, 0, weighs most",
            holds=medians["process"].mean() < 0,
        ),
        _results.claim(
            "The linear hypernet of the same fixed λ over-predicts (median error above 0, on "
            "average).",
            signed("fixed"),
            holds=medians["fixed"].mean() > 0,
        ),
    ]


def _claim_centered(
    medians: np.ndarray, ranges: np.ndarray, trends: dict[str, list[float]]
) -> dict[str, Any]:
    low, high = trends["stochastic_by_true_loss"][0], trends["stochastic_by_true_loss"][-1]
    return _results.claim(
        "The stochastically trained linear hypernet's error is centered on 0 "
        f"(its median within {CENTERED:.0%} of its 90 % range, every seed).",
        f"medians {_listed(medians, '+.3f')} nats, ranges {_listed(ranges)}. The mean error is "
        f"{low:+.3f} on the tenth of λ with the least true loss and {high:+.3f} on that with the "
        "greatest: a linear map can't follow the curve of the best response, which no training "
        "fixes",
        holds=bool(np.all(np.abs(medians) <= CENTERED * ranges)),
    )


def _claim_narrowest(ranges: dict[str, np.ndarray]) -> dict[str, Any]:
    return _results.claim(
        "The stochastically trained linear hypernet's 90 % range is the narrowest of the "
        "three, whatever the seed and the set.",
        "; ".join(f"{NAMES[name]}: {_span(ranges[name])}" for name in COLUMNS)
        + f" nats. Ours, for as many gradient evaluations: {NAMES['relu']}: "
        f"{_span(ranges['relu'])}; (a) with {NAMES['process_ours']}: "
        f"{_span(ranges['process_ours'])}",
        holds=ranges["stochastic"].max() < min(ranges["process"].min(), ranges["fixed"].min()),
    )


def _claim_near_best(
    predicted: dict[str, np.ndarray], obtained: dict[str, np.ndarray], best: float, farther: float
) -> dict[str, Any]:
    return _results.claim(
        "The λ that each of the three predicts best is nearly the true best "
        f"(loss within {NEAR_BEST:.0%}, on average).",
        f"the true best of all pairs is {best:.3f}; predicted, and then obtained, on average: "
        + "; ".join(
            f"{NAMES[name]}: {predicted[name].mean():.3f} and {obtained[name].mean():.3f}"
            for name in COLUMNS
        )
        + f". What a process predicts best lies farther from its data than {farther:.0%} of "
        "all λ do",
        holds=all(obtained[name].mean() <= best * (1 + NEAR_BEST) for name in COLUMNS),
    )


def _listed(values: np.ndarray, form: str = ".3f") -> str:
    return ", ".join(format(value, form) for value in values)


def _span(values: np.ndarray) -> str:
    low, high = f"{values.min():.3f}", f"{values.max():.3f}"
    return low if low == high else f"{low} to {high}"
