"""What searches refuse before anything is traced."""

from typing import Any

from shohypernet._internal.validation import whole


def eta(function: str, value: Any) -> None:
    """Refuses to let all go on."""
    whole(function, eta=value)
    if value < 2:
        raise ValueError(
            f"{function}() needs eta to be 2 or more, got {value}: one in eta goes on."
        )
