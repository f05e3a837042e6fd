"""Which inputs a function's results are computed from, read off its trace."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Literal


def reads(function: Callable[[Any], Any], argument: Any) -> list[bool]:
    """Whether any result of a function is computed from each leaf of its argument.

    Nothing is compiled or computed. Where in doubt the answer is yes: branches, for one, are taken
    to read all that they are given.
    """
    traced = jax.make_jaxpr(function)(argument)
    return _reads(traced.jaxpr, [True] * len(traced.jaxpr.outvars))


def _reads(jaxpr: Any, wanted: Sequence[bool]) -> list[bool]:
    needed = set(_variables(jaxpr.outvars, wanted))
    for equation in reversed(jaxpr.eqns):
        outputs = [variable in needed for variable in equation.outvars]
        if not any(outputs):
            continue
        match equation.primitive.name:
            case "jit":
                read = _reads(equation.params["jaxpr"].jaxpr, outputs)
            case "scan":
                body = equation.params["jaxpr"].jaxpr
                read = _reads(body, [True] * len(body.outvars))
            case _:
                read = [True] * len(equation.invars)
        needed.update(_variables(equation.invars, read))
    return [variable in needed for variable in jaxpr.invars]


def _variables(atoms: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    pairs = zip(atoms, wanted, strict=True)
    return [atom for atom, want in pairs if want and not isinstance(atom, Literal)]
