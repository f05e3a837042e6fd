"""A spy that counts derivatives: how often one passes through the weights, whatever made it.

A gradient is one pass, backwards. A product with second derivatives is two, forwards and backwards
or both the same way, and costs as much: hence the unit in which methods count their compute.
"""

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_watched, _passing = Primitive("watched"), Primitive("passing")
_passes = []


def watch(array):
    """The same array; from here on, `passes` counts the derivatives that go through it."""
    return _watched.bind(array, times=1)


def passes(function, *arguments):
    """What a function returns, and how many derivatives passed, once for each that is vmapped."""
    jax.effects_barrier()
    _passes.clear()
    result = jax.block_until_ready(function(*arguments))
    jax.effects_barrier()
    return result, len(_passes)


def _record(tangent, *, times):
    def seen(tangent):
        _passes.extend([None] * times)
        return tangent

    # Pure, so that a pass whose result nobody uses is left out, as its products are.
    like = jax.ShapeDtypeStruct(tangent.shape, tangent.dtype)
    return jax.pure_callback(seen, like, tangent, vmap_method="expand_dims")


def _pass(tangent, times):
    return tangent if type(tangent) is ad.Zero else _passing.bind(tangent, times=times)


def _differentiate(arrays, tangents, *, times):
    return _watched.bind(*arrays, times=times), _pass(*tangents, times)


def _batch(primitive):
    def batched(arguments, axes, *, times):
        (array,), (axis,) = arguments, axes
        return primitive.bind(array, times=times * array.shape[axis]), axis

    return batched


for primitive, evaluate in {_watched: lambda array, *, times: array, _passing: _record}.items():
    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(lambda array, *, times: array)
    mlir.register_lowering(primitive, mlir.lower_fun(evaluate, multiple_results=False))
    batching.primitive_batchers[primitive] = _batch(primitive)
ad.primitive_jvps[_watched] = _differentiate
ad.deflinear2(_passing, lambda cotangent, _, *, times: [_pass(cotangent, times)])
