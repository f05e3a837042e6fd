"""Images moved, turned, scaled, cut and lit at strengths that are hyperparameters.

Images are batches (n, height, width, channels), values in [0, 1] with black 0; or flat, (n,
pixels), with `shape=(height, width)` or `(height, width, channels)`. What comes in from outside is
black.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.regularizers._base import Regularizer, of_strength, require_start
from shohypernet.types import Key

Shape = tuple[int, ...] | None


def translate(
    start: float = 0.5, *, high: float = 8.0, shape: Shape = None, name: str = "translate"
) -> Regularizer:
    """Shifts by s · N(0, 1) pixels along each axis, between pixels interpolated linearly.

    Args:
      start: s to start from, in pixels.
      high: upper bound of s.
      shape: of an image, where inputs are flat.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds; when traced, for inputs that are no images.
    """

    def moved(key: Key, strength: Any, images: jax.Array) -> jax.Array:
        offsets = strength * jax.random.normal(key, (2, len(images)), images.dtype)
        return resampled(images, jnp.ones_like(offsets), offsets)

    return of_strength("translate", start, high, name, _on_images("translate", shape, moved))


def scale(
    start: float = 0.05, *, high: float = 1.0, shape: Shape = None, name: str = "scale"
) -> Regularizer:
    """Images enlarged by exp(s · N(0, 1)) about their center, both axes alike.

    Args:
      start: s to start from.
      high: upper bound of s.
      shape: of an image, where inputs are flat.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds; when traced, for inputs that are no images.
    """

    def scaled(key: Key, strength: Any, images: jax.Array) -> jax.Array:
        factors = jnp.exp(strength * jax.random.normal(key, (len(images),), images.dtype))
        factors = jnp.stack([factors, factors])
        return resampled(images, factors, jnp.zeros_like(factors))

    return of_strength("scale", start, high, name, _on_images("scale", shape, scaled))


def rotate(
    start: float = 2.0, *, high: float = 45.0, shape: Shape = None, name: str = "rotate"
) -> Regularizer:
    """Images turned by s · N(0, 1) degrees about their center.

    Args:
      start: s to start from, in degrees.
      high: upper bound of s.
      shape: of an image, where inputs are flat.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds; when traced, for inputs that are no images.
    """

    def turned(key: Key, strength: Any, images: jax.Array) -> jax.Array:
        degrees = strength * jax.random.normal(key, (len(images),), images.dtype)
        return rotated(images, jnp.deg2rad(degrees))

    return of_strength("rotate", start, high, name, _on_images("rotate", shape, turned))


def cutout(
    start: tuple[float, float] = (1.5, 1.5),
    *,
    most_holes: int = 5,
    longest_side: int = 24,
    shape: Shape = None,
    name: str = "cutout",
) -> Regularizer:
    """Black squares, ⌊holes⌋ of them with sides of ⌊side⌋ pixels.

    Their centers are uniform over the pixels, so that a square may lie partly outside.

    Args:
      start: holes and side to start from.
      most_holes: upper bound of the number of holes.
      longest_side: upper bound of the side, in pixels.
      shape: of an image, where inputs are flat.
      name: of the two hyperparameters, "holes" and "side".

    Raises:
      ValueError: for a start outside the bounds; when traced, for inputs that are no images.

    Reference:
      DeVries and Taylor (2017), arXiv:1708.04552.
    """
    validation.whole("cutout", most_holes=most_holes, longest_side=longest_side)
    # Up to the next whole number, which floor never reaches.
    space = {
        "holes": hp.bounded(0.0, most_holes + 1.0),
        "side": hp.bounded(0.0, longest_side + 1.0),
    }
    values = dict(zip(("holes", "side"), start, strict=True))
    require_start("cutout", values, space)

    def cut(key: Key, values: Any, images: jax.Array) -> jax.Array:
        holes, side = jnp.floor(values["holes"]), jnp.floor(values["side"])
        count, height, width, _ = images.shape
        sizes = jnp.array([height, width])[:, None, None]
        centers = jax.random.randint(key, (2, count, most_holes), 0, sizes)

        def covered(axis: int, length: int) -> jax.Array:
            """Which places along an axis each square covers, shape (count, most_holes, length)."""
            first = centers[axis, ..., None] - jnp.floor(side / 2)
            places = jnp.arange(length)[None, None]
            return (places >= first) & (places < first + side)

        squares = covered(0, height)[..., :, None] & covered(1, width)[..., None, :]
        drawn = (jnp.arange(most_holes) < holes)[None, :, None, None]
        return jnp.where(jnp.any(squares & drawn, axis=1)[..., None], 0, images)

    return Regularizer(name, space, lambda model: dict(values), _on_images("cutout", shape, cut))


def brightness(
    start: float = 0.02, *, high: float = 0.5, shape: Shape = None, name: str = "brightness"
) -> Regularizer:
    """A number from U[−s, s] added to all of an image.

    Args:
      start: s to start from.
      high: upper bound of s.
      shape: of an image, where inputs are flat.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds; when traced, for inputs that are no images.
    """

    def lit(key: Key, strength: Any, images: jax.Array) -> jax.Array:
        deltas = strength * jax.random.uniform(key, (len(images),), images.dtype, -1, 1)
        return images + deltas[:, None, None, None]

    return of_strength("brightness", start, high, name, _on_images("brightness", shape, lit))


def contrast(
    start: float = 0.05, *, high: float = 1.0, shape: Shape = None, name: str = "contrast"
) -> Regularizer:
    """Distances from the mean of an image's channel multiplied by U[1 / (1 + s), 1 + s].

    Args:
      start: s to start from.
      high: upper bound of s.
      shape: of an image, where inputs are flat.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds; when traced, for inputs that are no images.
    """

    def contrasted(key: Key, strength: Any, images: jax.Array) -> jax.Array:
        low, high = 1 / (1 + strength), 1 + strength
        unit = jax.random.uniform(key, (len(images), 1, 1, 1), images.dtype)
        mean = jnp.mean(images, axis=(1, 2), keepdims=True)
        return mean + (low + (high - low) * unit) * (images - mean)

    return of_strength("contrast", start, high, name, _on_images("contrast", shape, contrasted))


def resampled(images: jax.Array, factors: jax.Array, offsets: jax.Array) -> jax.Array:
    """Images enlarged about their center and shifted, by linear interpolation along each axis.

    An axis at a time it is a product with a matrix: output i reads the source at
    t_i = (i − c − offset) / factor + c, as M_ij = max(0, 1 − |j − t_i|).

    Args:
      images: shape (n, height, width, channels).
      factors: along the two axes, shape (2, n).
      offsets: likewise, in pixels.
    """

    def matrices(length: int, factor: jax.Array, offset: jax.Array) -> jax.Array:
        places, center = jnp.arange(length, dtype=images.dtype), (length - 1) / 2
        source = (places[None] - center - offset[:, None]) / factor[:, None] + center
        return jnp.maximum(0, 1 - jnp.abs(source[..., None] - places[None, None]))

    rows = matrices(images.shape[1], factors[0], offsets[0])
    columns = matrices(images.shape[2], factors[1], offsets[1])
    return jnp.einsum("nih,nhwc,njw->nijc", rows, images, columns)


def rotated(images: jax.Array, angles: jax.Array) -> jax.Array:
    """Images turned counterclockwise about their center, by bilinear interpolation.

    (dm-pix does the same, and on a CPU takes five times as long.)

    Args:
      images: shape (n, height, width, channels).
      angles: in radians, shape (n,).
    """
    count, height, width, channels = images.shape
    angles = angles[:, None, None]
    center = jnp.array([(height - 1) / 2, (width - 1) / 2], images.dtype)
    rows, columns = jnp.meshgrid(
        jnp.arange(height) - center[0], jnp.arange(width) - center[1], indexing="ij"
    )
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    row = cos * rows[None] + sin * columns[None] + center[0]
    column = cos * columns[None] - sin * rows[None] + center[1]
    above, left = jnp.floor(row), jnp.floor(column)
    down, right = (row - above)[..., None], (column - left)[..., None]
    # A border of black, in which all that lies further outside is read.
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(count, -1, channels)

    def at(row: jax.Array, column: jax.Array) -> jax.Array:
        row, column = jnp.clip(row + 1, 0, height + 1), jnp.clip(column + 1, 0, width + 1)
        place = (row * (width + 2) + column).astype(int).reshape(count, -1, 1)
        return jnp.take_along_axis(padded, place, axis=1, mode="clip").reshape(images.shape)

    upper = (1 - right) * at(above, left) + right * at(above, left + 1)
    lower = (1 - right) * at(above + 1, left) + right * at(above + 1, left + 1)
    return (1 - down) * upper + down * lower


def _on_images(
    function: str, shape: Shape, change: Callable[[Key, Any, jax.Array], jax.Array]
) -> Callable[..., tuple[Any, Any]]:
    def transform(key: Key, values: Any, inputs: jax.Array, targets: Any) -> tuple[Any, Any]:
        wanted = inputs.shape[1:] if shape is None else (*shape, 1)[:3]
        floating = jnp.issubdtype(inputs.dtype, jnp.floating)
        if len(wanted) != 3 or math.prod(inputs.shape[1:]) != math.prod(wanted) or not floating:
            raise ValueError(
                f"{function}() needs images (n, height, width, channels) in floating point, or "
                f"flat ones with shape=(height, width), got inputs {inputs.shape} of "
                f"{inputs.dtype} and {shape=}."
            )
        images = change(key, values, inputs.reshape(-1, *wanted))
        return images.reshape(inputs.shape).astype(inputs.dtype), targets

    return transform
