"""What builders refuse in their numbers, in plain words. Traced numbers can't be looked at."""

import math
import numbers
from typing import Any


def whole(function: str, *, least: int = 1, **sizes: Any) -> None:
    """Refuses sizes that aren't whole numbers of `least` or more.

    Raises:
      ValueError: naming the function, the size and what came.
    """
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral) or isinstance(size, bool) or int(size) < least:
            raise ValueError(
                f"{function}() needs {name} to be a whole number >= {least}, got {size!r}."
            )


def positive(function: str, **values: Any) -> None:
    """Refuses numbers that aren't finite and above 0."""
    for name, value in values.items():
        if isinstance(value, numbers.Real) and not 0 < float(value) < math.inf:
            raise ValueError(f"{function}() needs {name} to be finite and > 0, got {value!r}.")


def not_negative(function: str, **values: Any) -> None:
    """Refuses numbers that aren't finite and 0 or more."""
    for name, value in values.items():
        if isinstance(value, numbers.Real) and not 0 <= float(value) < math.inf:
            raise ValueError(f"{function}() needs {name} to be finite and >= 0, got {value!r}.")
