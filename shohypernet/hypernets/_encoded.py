"""A hypernet that reads features of λ."""

from typing import Any, NamedTuple

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet
from shohypernet.hypernets.encodings import Encoding
from shohypernet.types import Hyperparams, Key, Params


class EncodedParams(NamedTuple):
    """φ of `encoded`: numbers of the encoding, and φ of the hypernet."""

    encoding: Any
    hypernet: Any


def encoded(hypernet: Hypernet, encoding: Encoding) -> Hypernet:
    """w_φ(f(λ)): a hypernet behind an encoding f of its hyperparameters.

    Args:
      hypernet: any hypernet; `elementwise` reads the form of λ, which `circular` changes.
      encoding: such as `encodings.standardized(problem.space)`.

    Returns:
      A Hypernet whose φ holds the encoding's own numbers too.

    Raises:
      TypeError: for something that is no hypernet, or no encoding.
    """
    validation.hypernet("encoded", hypernet)
    if hypernet.posterior is not None:
        raise TypeError(
            "encoded() would lose a Bayesian hypernet's distribution; encode first: "
            "bayesian(encoded(hypernet, encoding))."
        )
    if not isinstance(encoding, Encoding):
        raise TypeError(
            f"encoded() needs an Encoding, got {encoding!r}; make one of the problem's space: "
            "shn.hypernets.encodings.standardized(problem.space)."
        )

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> EncodedParams:
        numbers = encoding.init(hyperparams)
        features = encoding.features(numbers, hyperparams)
        return EncodedParams(numbers, hypernet.init(key, params, features))

    def apply(hypernet_params: EncodedParams, hyperparams: Hyperparams) -> Params:
        features = encoding.features(hypernet_params.encoding, hyperparams)
        return hypernet.apply(hypernet_params.hypernet, features)

    return Hypernet(init, apply)
