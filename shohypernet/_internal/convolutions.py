"""Convolutions inside loops on a CPU, as products with patches of their inputs.

In the body of a `lax.scan` XLA runs convolutions on a CPU without its threaded kernels: three to
seventy times as slow as outside of one. A product of matrices is as fast there as anywhere.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

MOST_NUMBERS = 2**26  # in the patches of a part of the examples


@contextlib.contextmanager
def as_products() -> Iterator[None]:
    """Within it, Flax's `nn.Conv` traces products of patches and kernels if this is a CPU."""
    if jax.default_backend() != "cpu":
        yield
        return
    with nn.intercept_methods(_intercept):
        yield


def _intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    own = not isinstance(module, nn.Conv) or module.conv_general_dilated_cls
    if own or module.conv_general_dilated:
        return call(*args, **kwargs)
    with attribute(module, "conv_general_dilated", conv_general_dilated):
        return call(*args, **kwargs)


@contextlib.contextmanager
def attribute(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Within it, an attribute of a bound module is another; `clone` would lose its variables."""
    before = getattr(module, name)
    object.__setattr__(module, name, value)  # a frozen dataclass
    try:
        yield
    finally:
        object.__setattr__(module, name, before)


def conv_general_dilated(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Any,
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` as Flax calls it: channels last."""
    if feature_group_count > 1 or set(lhs_dilation) != {1}:
        return jax.lax.conv_general_dilated(
            inputs,
            kernel,
            strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            precision=precision,
        )
    window = kernel.shape[:-2]
    spans = [(size - 1) * apart + 1 for size, apart in zip(window, rhs_dilation, strict=True)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(inputs.shape[1:-1], spans, strides, padding)
    # Divided by a one unknown to the compiler, or it would compute all that makes the inputs,
    # such as random numbers, once for each offset: behind a division it does so once.
    first = jax.lax.stop_gradient(inputs.reshape(-1)[0])
    one = jnp.where(jnp.isfinite(first), 1 + 0 * first, 1)
    padded = jnp.pad(inputs, [(0, 0), *padding, (0, 0)]) / one
    outputs = [
        (length - span) // stride + 1
        for length, span, stride in zip(padded.shape[1:-1], spans, strides, strict=True)
    ]
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def product(padded: jax.Array) -> jax.Array:
        patches = [
            padded[(slice(None), *_slices(offset, outputs, strides, rhs_dilation))]
            for offset in itertools.product(*map(range, window))
        ]
        return jnp.matmul(jnp.concatenate(patches, axis=-1), matrix, precision=precision)

    numbers = math.prod(outputs) * matrix.shape[0]
    if len(padded) * numbers <= MOST_NUMBERS:
        return product(padded)
    # The patches of some examples at a time, made a second time on the way back.
    some = max(1, MOST_NUMBERS // numbers)
    each = jax.checkpoint(lambda example: product(example[None])[0])
    return jax.lax.map(each, padded, batch_size=some)


def _slices(
    offset: Sequence[int], outputs: Sequence[int], strides: Sequence[int], apart: Sequence[int]
) -> list[slice]:
    """Where the inputs lie that one number of the kernel is multiplied by."""
    return [
        slice(first * gap, first * gap + (count - 1) * stride + 1, stride)
        for first, count, stride, gap in zip(offset, outputs, strides, apart, strict=True)
    ]
