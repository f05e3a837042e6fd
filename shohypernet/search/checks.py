"""What searches refuse before anything is traced."""

import numbers
from typing import Any


def whole(function: str, **sizes: Any) -> None:
    """Refuses sizes that aren't whole numbers of 1 or more."""
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{function}() needs {name} to be a whole number >= 1, got {size!r}.")


def eta(function: str, value: Any) -> None:
    """Refuses to let all go on."""
    whole(function, eta=value)
    if value < 2:
        raise ValueError(
            f"{function}() needs eta to be 2 or more, got {value}: one in eta goes on."
        )
