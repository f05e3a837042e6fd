"""Exact solver of the Stackelberg prediction game with squared loss, and its baselines, in NumPy.

The owner of (x, z) moves x to the minimum of (wᵀx* − z)² + γ‖x* − x‖², whose prediction is

    wᵀx* = (wᵀx + a z)/(1 + a),    a = ‖w‖²/γ

The learner minimizes the mean of (wᵀx* − y)². At a given a that is a quadratic in w on the sphere
‖w‖² = γa, whose minimum has one multiplier, the root of a secular equation in the eigenbasis; what
remains is one variable, a.

Game: Brückner and Scheffer (2011), "Stackelberg Games for Adversarial Prediction Problems". Squared
loss: Bishop, Tran-Thanh and Gerding (2020), arXiv:2006.14427; Wang et al. (2021).
"""

from typing import Any

import numpy as np
import scipy.optimize

from experiments._strategic_data import Rows

LOG_RATIOS = np.linspace(-12, 12, 241)  # of a, where the search brackets its minimum


def predictions(weights: np.ndarray, cost: float, rows: Rows) -> np.ndarray:
    """Predictions wᵀx* for rows that their owners have moved, shape (n,)."""
    ratio = weights @ weights / cost
    return (rows.inputs @ weights + ratio * rows.wanted) / (1 + ratio)


def error(weights: np.ndarray, cost: float, rows: Rows) -> float:
    """Mean of (wᵀx* − y)², in squared units of the targets."""
    return float(np.mean((predictions(weights, cost, rows) - rows.targets) ** 2))


def moved(weights: np.ndarray, cost: float, rows: Rows) -> np.ndarray:
    """X* = (z wᵀ + γX)(w wᵀ + γI)⁻¹, shape (n, d)."""
    matrix = np.outer(weights, weights) + cost * np.eye(len(weights))
    return np.linalg.solve(matrix, (np.outer(rows.wanted, weights) + cost * rows.inputs).T).T


def solve(cost: float, rows: Rows) -> np.ndarray:
    """The learner's best weights, shape (d,)."""
    gram = rows.inputs.T @ rows.inputs
    values, vectors = np.linalg.eigh(gram)

    def weights(log_ratio: float) -> np.ndarray:
        ratio = np.exp(log_ratio)
        cross = rows.inputs.T @ ((1 + ratio) * rows.targets - ratio * rows.wanted)
        return vectors @ _on_sphere(values, vectors.T @ cross, np.sqrt(cost * ratio))

    def loss(log_ratio: float) -> float:
        return error(weights(log_ratio), cost, rows)

    best = int(np.argmin([loss(each) for each in LOG_RATIOS]))
    bounds = LOG_RATIOS[max(best - 1, 0)], LOG_RATIOS[min(best + 1, len(LOG_RATIOS) - 1)]
    found: Any = scipy.optimize.minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    return weights(found.x)


def _on_sphere(values: np.ndarray, cross: np.ndarray, radius: float) -> np.ndarray:
    """Minimum of wᵀ diag(values) w − 2 crossᵀw where ‖w‖ = radius: w = cross / (values + μ).

    ‖w‖ falls in μ, and the minimum is at the root above −(the least value). Only if `cross` had no
    part along the least value's vector would there be none, which data with noise never has.
    """

    def excess(log_gap: float) -> float:
        gaps = values - values[0] + np.exp(log_gap)
        return float(np.log(np.linalg.norm(cross / gaps) / radius))

    low, high = -60.0, 60.0
    root: Any = scipy.optimize.brentq(excess, low, high, xtol=1e-13)
    return cross / (values - values[0] + np.exp(root))


def ridge(rows: Rows) -> np.ndarray:
    """Ridge regression on the data as it was, its penalty by leave-one-out."""
    from sklearn.linear_model import RidgeCV

    penalties = np.logspace(-5, 2, 22)
    fitted = RidgeCV(alphas=penalties, fit_intercept=False).fit(rows.inputs, rows.targets)
    return np.asarray(fitted.coef_)


def retrained(cost: float, rows: Rows, times: int) -> np.ndarray:
    """Ridge regression, again and again on the data as it was moved for the weights before."""
    weights = ridge(rows)
    for _ in range(times):
        weights = ridge(rows._replace(inputs=moved(weights, cost, rows)))
    return weights


def by_quadratic_programming(cost: float, rows: Rows) -> np.ndarray:
    """The learner's objective by sequential quadratic programming from ridge's weights.

    Brückner and Scheffer's optimizer, with the owners' moves put in.
    """
    found = scipy.optimize.minimize(lambda w: error(w, cost, rows), ridge(rows), method="SLSQP")
    return found.x
