"""Report of `check`: cosines and lengths, by leaf of λ, and what follows in words."""

from typing import Any, NamedTuple

import numpy as np

# Cosines: a small step lowers the validation loss by that share of what a step as long along the
# reference would.
RIGHT, ROUGHLY = 0.8, 0.3
NAMED = 5  # leaves in a sentence, at most


class Comparison(NamedTuple):
    """An estimated hypergradient, or a leaf of it, beside the reference in each draw.

    Attributes:
      name: path of the leaf, or "whole".
      cosine: of the angle between them, shape (draws,).
      length: ratio of their lengths, 1 at best, shape (draws,).
      averaged: cosine of their means over the draws: that of an estimate with less noise.
      share: part of the reference's squared length that is this leaf's, from 0 to 1.
    """

    name: str
    cosine: np.ndarray
    length: np.ndarray
    averaged: float
    share: float


class Check(NamedTuple):
    """Outcome of `check`; `print` it.

    Attributes:
      whole: comparison of all leaves of λ together.
      leaves: comparison of each leaf, in the order of the tree.
      left_out: leaves that couldn't be compared, each with the reason.
      residuals: ‖C x − b‖₂ / ‖b‖₂ of each reference, shape (draws,).
      tolerance: residual at which a reference has converged.
      evaluations: gradients that the method's rounds took, on minibatches, and those that the
        references took, on all examples.
    """

    whole: Comparison
    leaves: list[Comparison]
    left_out: dict[str, str]
    residuals: np.ndarray
    tolerance: float
    evaluations: tuple[int, int]

    @property
    def converged(self) -> bool:
        """Whether all references have."""
        return bool(np.all(self.residuals <= self.tolerance))

    @property
    def verdict(self) -> str:
        """What follows, in sentences."""
        if not self.converged:
            return (
                f"No verdict: the reference has not converged, its residual is "
                f"{self.residuals.max():.2g} where {self.tolerance:.2g} was wanted. Allow more "
                "products, give a damping, or train on: far from a minimum the curvature may not "
                "be positive definite."
            )
        mean = self.whole.cosine.mean()
        found = (
            f"Cosine {_spread(self.whole.cosine)} over {len(self.whole.cosine)} draws, length "
            f"{self.whole.length.mean():.2g}"
        )
        if len(self.leaves) > 1:
            weakest = min(self.leaves, key=lambda leaf: leaf.cosine.mean())
            found += f"; {weakest.name} is the weakest, {weakest.cosine.mean():.2f}"
        # Not `<`, for NaN is not to be trusted either.
        weak = [leaf.name for leaf in self.leaves if not leaf.cosine.mean() >= ROUGHLY]
        if not mean >= ROUGHLY:
            says = "The hypergradient can't be trusted."
            if self.whole.averaged >= ROUGHLY:
                says += (
                    f" Its mean over the draws has a cosine of {self.whole.averaged:.2f}: larger "
                    "minibatches, or smaller steps of λ, would help."
                )
        else:
            says = f"λ will go {'' if mean >= RIGHT else 'roughly '}the right way"
            says += f", but it can't be trusted for {_listed(weak)}." if weak else "."
        return f"{found}. {says}"

    def __str__(self) -> str:
        """A table, the verdict, and the cost."""
        rows = [self.whole, *(self.leaves if len(self.leaves) > 1 else [])]
        width = max(len(row.name) for row in rows)
        lines = [f"{'':<{width}}  {'cosine':>13}  {'length':>13}  {'share':>6}"]
        lines += [
            f"{row.name:<{width}}  {_spread(row.cosine):>13}  {_spread(row.length):>13}  "
            f"{row.share:>6.3f}"
            for row in rows
        ]
        lines += [self.verdict]
        lines += [f"Left out: {name} {reason}" for name, reason in self.left_out.items()]
        own, reference = self.evaluations
        lines += [
            f"It took {own:,} gradients of the method's own, and {reference:,} on all examples for "
            f"the references, whose residuals are {self.residuals.max():.2g} at most."
        ]
        return "\n".join(lines)


def compared(
    estimates: list[dict[str, Any]],
    references: list[dict[str, Any]],
    *,
    left_out: dict[str, str],
    **found: Any,
) -> Check:
    """A Check of estimates and references, leaves by path, one of each for each draw.

    Raises:
      ValueError: if no leaf is left.
    """
    names = [name for name in references[0] if name not in left_out]
    silent = [name for name in names if not any(np.any(each[name]) for each in references)]
    left_out = left_out | dict.fromkeys(silent, "has a reference of zero at these weights.")
    shown = {name or "λ": reason for name, reason in left_out.items()}
    names = [name for name in names if name not in silent]
    if not names:
        reasons = "; ".join(f"{name} {reason}" for name, reason in shown.items())
        raise ValueError(f"check() has nothing to compare with: {reasons}")

    def comparison(name: str, chosen: list[str]) -> Comparison:
        own, exact = (_vectors(trees, chosen) for trees in (estimates, references))
        return Comparison(
            name,
            _cosine(own, exact),
            _norm(own) / _norm(exact),
            float(_cosine(own.mean(0), exact.mean(0))),
            float(np.sum(exact**2) / np.sum(_vectors(references, names) ** 2)),
        )

    leaves = [comparison(name or "λ", [name]) for name in names]
    return Check(comparison("whole", names), leaves, shown, **found)


def _vectors(trees: list[dict[str, Any]], chosen: list[str]) -> np.ndarray:
    """Some leaves of each tree in a row, in float64, for squares of small gradients are tiny."""
    rows = [np.concatenate([np.ravel(tree[name]) for name in chosen]) for tree in trees]
    return np.stack(rows).astype(float)


def _cosine(own: np.ndarray, exact: np.ndarray) -> np.ndarray:
    scale = _norm(own) * _norm(exact)
    return np.sum(own * exact, -1) / np.where(scale > 0, scale, 1)


def _norm(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows, axis=-1)


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
