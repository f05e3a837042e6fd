"""Checks of the arguments of builders, before anything is traced. Traced numbers pass unchecked.

A wrong but natural argument is recognized, and the error says what belongs there.
"""

import contextlib
import math
import numbers
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from shohypernet._internal import reasons


def whole(function: str, *, least: int = 1, **sizes: Any) -> None:
    """Refuse sizes that aren't whole numbers of `least` or more.

    Raises:
      ValueError: naming the function, the size and its value.
    """
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral) or isinstance(size, bool) or int(size) < least:
            raise ValueError(
                f"{function}() needs {name} to be a whole number >= {least}, got {size!r}."
            )


def positive(function: str, **values: Any) -> None:
    """Refuse numbers that aren't finite and above 0."""
    for name, value in values.items():
        if isinstance(value, numbers.Real) and not 0 < float(value) < math.inf:
            raise ValueError(f"{function}() needs {name} to be finite and > 0, got {value!r}.")


def not_negative(function: str, **values: Any) -> None:
    """Refuse numbers that aren't finite and 0 or more."""
    for name, value in values.items():
        if isinstance(value, numbers.Real) and not 0 <= float(value) < math.inf:
            raise ValueError(f"{function}() needs {name} to be finite and >= 0, got {value!r}.")


def require(holds: bool, message: str) -> None:
    """Refuse arguments with a message unless a condition holds."""
    if not holds:
        raise ValueError(message)


def require_bounds(name: str, low: float, high: float) -> None:
    """Refuse bounds that aren't finite and in order."""
    ordered = math.isfinite(low) and math.isfinite(high) and low < high
    require(ordered, f"{name}() needs finite bounds with low < high, got {low} and {high}.")


def problem(value: Any, function: str = "this method") -> Any:
    """The value, if it is a problem.

    Raises:
      TypeError: for a Flax module, weights, or anything else.
    """
    if _is_problem(value):
        return value
    if _is_module(value):
        fix = "make one of it: shn.supervised(model, inputs, loss, penalty)."
    elif isinstance(value, Mapping | list | tuple | np.ndarray | jax.Array):
        fix = "these look like weights, whose shapes methods learn from problem.init."
    else:
        fix = "make one by shn.supervised(...) or shn.Problem(init, train_loss, valid_loss)."
    raise TypeError(f"{function} needs a shn.Problem, got {_shown(value)}; {fix}")


def problem_and_method(function: str, problem_: Any, method: Any) -> None:
    """Refuse what is no problem or no method, also where they are swapped.

    Raises:
      TypeError: with the right call.
    """
    if _is_method(problem_) and _is_problem(method):
        raise TypeError(
            f"{function}() got the method before the problem; write {function}(problem, method, "
            "data, hyperparams)."
        )
    problem(problem_, f"{function}()")
    if _is_method(method):
        return
    module = getattr(method, "__module__", None) or ""
    if hasattr(method, "bind") or module.startswith("shohypernet.search"):
        fix = "a search is run by shn.search.run()"
    elif isinstance(method, optax.GradientTransformation | optax.MultiSteps):
        fix = "an optimizer goes into one, such as shn.implicit(problem, optimizer=...)"
    elif hasattr(method, "vjp") or (hasattr(method, "apply") and not _made_in("flax", method)):
        fix = "hypernets and Jacobians go into one, such as shn.local_response(problem, hypernet)"
    elif callable(method):
        fix = "call its builder with the problem"
    else:
        fix = "make one, such as shn.implicit(problem, ...)"
    raise TypeError(f"{function}() needs a HyperOptimizer, got {_shown(method)}; {fix}.")


def _is_problem(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("init", "train_loss", "valid_loss", "space"))


def _is_method(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("init", "step", "weights"))


def optimizer(
    function: str, *, function_of_hyperparams: bool = False, **optimizers: Any
) -> tuple[Any, ...]:
    """The values, if they are optax optimizers; an `optax.MultiSteps` as one.

    Args:
      function: name of the caller.
      function_of_hyperparams: whether a function from λ to an optimizer will do.
      **optimizers: the values, by the names of the arguments.

    Raises:
      TypeError: for a number, an optimizer's class or builder, or anything else.
    """
    checked = []
    for name, value in optimizers.items():
        if isinstance(value, optax.MultiSteps):
            value = value.gradient_transformation()
        makes_one = callable(value) and not _made_in("optax", value)
        if not isinstance(value, optax.GradientTransformation) and not (
            function_of_hyperparams and makes_one
        ):
            raise TypeError(f"{function}() {_optimizer_advice(name, value)}")
        checked.append(value)
    return tuple(checked)


def _optimizer_advice(name: str, value: Any) -> str:
    needs = f"needs {name} to be an optax optimizer, got {_shown(value)}"
    if isinstance(value, numbers.Real | jax.Array):
        return f"{needs}; write optax.adam({value}) for a step size of {value}."
    if _made_in("optax", value):
        return f"{needs}; call it, with its step size: {value.__name__}(1e-3)."
    if hasattr(value, "regularizer"):
        return (
            f"{needs}. A proximal optimizer goes with λ: give it to implicit(), unrolled(), "
            "truncated(), forward(), real_time() or drmad(), and what it makes of one λ to train()."
        )
    if callable(value):
        return (
            f"{needs}. If it makes an optimizer, call it. A step size or momentum that depends on "
            "λ doesn't move the minimum of the training loss, so that only unrolled(), "
            "truncated(), forward(), real_time(), drmad() and search.run() can tune it."
        )
    return f"{needs}, such as optax.adam(1e-3)."


def hypernet(function: str, value: Any) -> Any:
    """The value, if it is a hypernet.

    Raises:
      TypeError: for a response Jacobian, a builder that wasn't called, or anything else.
    """
    if hasattr(value, "init") and hasattr(value, "apply") and not _is_module(value):
        return value
    if hasattr(value, "vjp"):
        fix = (
            "a response Jacobian is for centered_response(). Here goes a hypernet: "
            "shn.hypernets.linear()"
        )
    elif _made_in("shohypernet.hypernets", value):
        fix = f"call it: shn.hypernets.{value.__name__}()"
    else:
        fix = "make one: shn.hypernets.linear()"
    raise TypeError(f"{function}() needs a Hypernet, got {_shown(value)}; {fix}.")


def jacobian(function: str, value: Any) -> Any:
    """The value, if it is a response Jacobian.

    Raises:
      TypeError: for a hypernet, a builder that wasn't called, or anything else.
    """
    if hasattr(value, "vjp") and hasattr(value, "update"):
        return value
    if hasattr(value, "apply") and not _is_module(value):
        fix = (
            "a hypernet is for local_response(), or goes in as its slope: "
            "shn.jacobians.linearized(hypernet, optimizer=...)"
        )
    elif _made_in("shohypernet.jacobians", value):
        fix = f"call it: shn.jacobians.{value.__name__}(...)"
    else:
        fix = "make one: shn.jacobians.kronecker()"
    raise TypeError(f"{function}() needs a ResponseJacobian, got {_shown(value)}; {fix}.")


def model(value: Any, init: Any) -> nn.Module | None:
    """The value, if it is a Flax Linen module; None for a function that comes with its `init`.

    Raises:
      TypeError: for any other model, with the way to wrap it.
    """
    libraries = _libraries(value)
    if "nnx" in libraries:
        fix = (
            "NNX modules hold their weights. Let Linen make fresh ones for each seed, from the "
            "class: flax.nnx.bridge.to_linen(Model, *arguments)."
        )
    elif "equinox" in libraries:
        fix = (
            "split it by equinox.partition(model, equinox.is_inexact_array) and pass a function "
            "model(params, inputs) that combines the parts again, with init=..."
        )
    elif "linen" in libraries and isinstance(value, type):
        fix = f"this is a class; make a module of it: {value.__name__}(...)."
    elif "linen" in libraries:
        if init is None:
            return value
        raise TypeError(
            f"supervised() got init=... with a {type(value).__name__}, which has an init of its "
            "own; leave it out."
        )
    elif callable(value):
        if init is not None:
            return None
        fix = (
            "a function model(params, inputs) needs init=..., a function from a PRNG key to fresh "
            "weights."
        )
    else:
        fix = "or a function model(params, inputs) with init=..."
    raise TypeError(f"supervised() needs a flax.linen.Module, got {_shown(value)}; {fix}")


CONCRETE_NEEDED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@contextlib.contextmanager
def traceable(function: str) -> Iterator[None]:
    """Explain the error of a loss that isn't traceable.

    Raises:
      TypeError: in place of JAX's.
    """
    try:
        yield
    except CONCRETE_NEEDED as error:
        raise TypeError(f"{function} traces the losses: {reasons.DECIDES}") from error


def _is_module(value: Any) -> bool:
    return bool(_libraries(value))


def _libraries(value: Any) -> set[str]:
    """Those of Linen, NNX and Equinox that a module or its class comes from."""
    kind = value if isinstance(value, type) else type(value)
    bases = [base.__module__ for base in kind.__mro__]
    if issubclass(kind, nn.Module):  # some of NNX's own are: those that `to_linen` makes
        return {"linen"}
    homes = {"nnx": "flax.nnx.", "equinox": "equinox."}
    return {
        name for name, home in homes.items() if any(f"{base}.".startswith(home) for base in bases)
    }


def _made_in(package: str, value: Any) -> bool:
    """Whether it is a function or class of a package."""
    return isinstance(value, FunctionType | type) and f"{value.__module__}.".startswith(
        f"{package}."
    )


def _shown(value: Any) -> str:
    """The value's kind and, cut short, what it looks like."""
    named = isinstance(value, FunctionType | type)
    text = value.__name__ if named else " ".join(repr(value).split())
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{type(value).__name__} {short}"
