"""Which inputs a function's results are computed from, read off its trace.

Nothing is compiled or computed. Each variable of the jaxpr gets the set of inputs that it may
depend on, and none if it is a zero by construction: a derivative that JAX knows to be zero, and
what is multiplied by one. Where in doubt a result depends on all that went into it.
"""
# ruff: noqa: SIM905  (lists of primitives read better as text)

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Literal


class _Value(NamedTuple):
    """Abstract value of a variable.

    Attributes:
      inputs: inputs that it may depend on, a bit each.
      zero: whether it is surely zero.
      same: the input that it surely equals, if any.
    """

    inputs: int
    zero: bool = False
    same: int | None = None


_CONSTANT = _Value(0)
_ZERO = _Value(0, zero=True)

# Zero if all that goes in is zero, whatever the shapes.
_KEEP_ZERO = frozenset(
    """
    abs add add_any broadcast_in_dim cbrt concatenate convert_element_type copy copy_p cumsum
    dot_general expand_dims integer_pow max min mul neg optimization_barrier pad real reduce_max
    reduce_precision reduce_sum reshape rev select_n sharding_constraint sign sin slice sqrt square
    squeeze stop_gradient sub tan tanh transpose
    """.split()
)
_IDENTITIES = frozenset(
    """
    broadcast_in_dim convert_element_type copy copy_p expand_dims optimization_barrier reshape
    sharding_constraint squeeze
    """.split()
)
_PRODUCTS = frozenset(["mul", "dot_general", "and", "conv_general_dilated"])
_CALLS = {"jit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
_CALLS |= {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "remat2": "jaxpr"}
_CALLS |= {"checkpoint": "jaxpr", "custom_vmap_call": "call", "shard_map": "jaxpr"}


def dependence(function: Callable[..., Any], *arguments: Any) -> list[list[bool]]:
    """Whether each leaf of a function's result depends on each leaf of its arguments.

    Args:
      function: any traceable function.
      *arguments: trees of arrays or of `jax.ShapeDtypeStruct`s.

    Returns:
      A row for each leaf of the result, with an entry for each leaf of the arguments.
    """
    values, count = _interpret(function, *arguments)
    return [[bool(value.inputs >> i & 1) for i in range(count)] for value in values]


def zeros(function: Callable[..., Any], *arguments: Any) -> list[bool]:
    """Whether each leaf of a function's result is zero by construction."""
    return [value.zero for value in _interpret(function, *arguments)[0]]


def unchanged(function: Callable[[Any], Any], argument: Any) -> list[bool]:
    """Whether each leaf of a function's result is, by construction, that leaf of its argument."""
    values, _ = _interpret(function, argument)
    return [value.same == i for i, value in enumerate(values)]


def reads(function: Callable[[Any], Any], argument: Any) -> list[bool]:
    """Whether any result of a function depends on each leaf of its argument."""
    rows = dependence(function, argument)
    return [any(column) for column in zip(*rows, strict=True)] if rows else []


def fixed(start: Any, steps: Any, leaves: Sequence[int]) -> list[bool]:
    """Whether steps leave leaves of a state as they are, by construction.

    Args:
      start: jaxpr of a function that makes the state.
      steps: jaxpr of a function whose first arguments and first results are the state.
      leaves: positions in the state, of leaves that count as any number.
    """
    made = _results(start.jaxpr, start.consts, [_CONSTANT] * len(start.jaxpr.invars))
    free = {i: _Value(1 << i, same=i) for i in leaves}
    state = [free.get(i, value) for i, value in enumerate(made)]
    rest = [_CONSTANT] * (len(steps.jaxpr.invars) - len(state))
    values = _results(steps.jaxpr, steps.consts, [*state, *rest])
    return [values[i].same == i for i in leaves]


def constants(closed: Any) -> list[Any]:
    """The arrays that a closed jaxpr holds, with those of the jaxprs within it."""
    found = list(closed.consts)
    for equation in closed.jaxpr.eqns:
        for below in jax.tree.leaves(list(equation.params.values())):
            if hasattr(below, "consts") and hasattr(below, "jaxpr"):
                found += constants(below)
            elif hasattr(below, "eqns"):
                found += constants(ClosedJaxpr(below, []))
    return found


def _interpret(function: Callable[..., Any], *arguments: Any) -> tuple[list[_Value], int]:
    traced = jax.make_jaxpr(function)(*arguments)
    count = len(traced.jaxpr.invars)
    inputs = [_Value(1 << i, same=i) for i in range(count)]
    return _results(traced.jaxpr, traced.consts, inputs), count


def _results(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[_Value]) -> list[_Value]:
    known: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {
        variable: _constant(value) for variable, value in zip(jaxpr.constvars, consts, strict=True)
    }

    def read(atom: Any) -> _Value:
        return _constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        values = _equation(equation, operands)
        known.update(zip(equation.outvars, values, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(equation: Any, operands: Sequence[_Value]) -> Sequence[_Value]:
    name, params = equation.primitive.name, equation.params
    count = len(equation.outvars)
    if name in _CALLS and _CALLS[name] in params:
        inner = params[_CALLS[name]]
        return (
            _results(inner.jaxpr, inner.consts, operands)
            if hasattr(inner, "consts")
            else (_results(inner, (), operands))
        )
    match name:
        case "scan":
            return _scan(equation, operands)
        case "while":
            return _while(params, operands)
        case "cond":
            branches = [_results(b.jaxpr, b.consts, operands[1:]) for b in params["branches"]]
            return [_chosen(operands[0], each) for each in zip(*branches, strict=True)]
        case "select_n":
            return [_chosen(operands[0], operands[1:])]
        case "div":
            return [_ZERO if operands[0].zero else _joined(operands)._replace(same=None)]
        case "convert_element_type" if not jnp.issubdtype(
            equation.invars[0].aval.dtype, np.inexact
        ):
            return [_joined(operands)._replace(zero=False, same=None)]
        case "add" | "sub" | "add_any" if operands[1].zero and not operands[0].zero:
            return [operands[0]]
        case "add" | "add_any" if operands[0].zero and not operands[1].zero:
            return [operands[1]]
    if name in _PRODUCTS and any(operand.zero for operand in operands):
        return [_ZERO] * count
    joined = _joined(operands)
    same = joined.same if name in _IDENTITIES else None
    return [joined._replace(zero=joined.zero and name in _KEEP_ZERO, same=same)] * count


def _scan(equation: Any, operands: Sequence[_Value]) -> list[_Value]:
    body = equation.params["jaxpr"]
    # Stacked arrays have one more axis outside. (The parameters that count them vary by version.)
    slices_in = _stacked(equation.invars, body.jaxpr.invars)
    carried = len(equation.outvars) - _stacked(equation.outvars, body.jaxpr.outvars)
    constants = len(operands) - slices_in - carried
    fixed, carry = list(operands[:constants]), list(operands[constants : constants + carried])
    slices = list(operands[constants + carried :])
    while True:
        made = _results(body.jaxpr, body.consts, [*fixed, *carry, *slices])
        after = [_joined(pair) for pair in zip(carry, made[:carried], strict=True)]
        if after == carry:
            return [*carry, *made[carried:]]
        carry = after


def _stacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    pairs = zip(outside, inside, strict=True)
    return sum(len(outer.aval.shape) > len(inner.aval.shape) for outer, inner in pairs)


def _while(params: Any, operands: Sequence[_Value]) -> list[_Value]:
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    cond_fixed, body_fixed = operands[:of_cond], operands[of_cond : of_cond + of_body]
    carry = list(operands[of_cond + of_body :])
    while True:
        (going,) = _results(cond.jaxpr, cond.consts, [*cond_fixed, *carry])
        made = _results(body.jaxpr, body.consts, [*body_fixed, *carry])
        after = [_chosen(going, pair) for pair in zip(carry, made, strict=True)]
        if after == carry:
            return carry
        carry = after


def _joined(values: Sequence[_Value]) -> _Value:
    inputs = 0
    for value in values:
        inputs |= value.inputs
    same = {value.same for value in values}
    return _Value(
        inputs, all(value.zero for value in values), same.pop() if len(same) == 1 else None
    )


def _chosen(by: _Value, values: Sequence[_Value]) -> _Value:
    """One of several values, chosen by another."""
    joined = _joined(values)
    if joined.zero or joined.same is not None:
        return joined
    return joined._replace(inputs=joined.inputs | by.inputs)


def _constant(value: Any) -> _Value:
    # A zero that is a whole number may count something, and be another one next time.
    if not isinstance(value, np.ndarray | np.generic | float | jax.Array):
        return _CONSTANT
    if isinstance(value, Tracer) or not jnp.issubdtype(jnp.result_type(value), np.inexact):
        return _CONSTANT
    return _CONSTANT if np.any(np.asarray(value) != 0) else _ZERO
