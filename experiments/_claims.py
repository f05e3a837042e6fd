"""Claims and their verdicts in plain text."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

VERDICTS = {True: "holds", False: "DOES NOT HOLD", None: "not judged"}


def shown(claims: Sequence[dict[str, Any]]) -> str:
    """The claims in plain text: verdicts on the left, numbers below each claim; and the count."""
    margin = max(map(len, VERDICTS.values())) + 2
    width = min(shutil.get_terminal_size().columns, 100) - 1
    lines = []
    for each in claims:
        for start, text in ((VERDICTS[each["holds"]], each["claim"]), ("", each["measured"])):
            begun = f"{start:{margin}}"
            lines += textwrap.wrap(
                text, width, initial_indent=begun, subsequent_indent=" " * margin
            )
    return "\n".join([*lines, f"{count(claims)}."])


def count(claims: Sequence[dict[str, Any]]) -> str:
    """Numbers of claims that hold, of those with a verdict, and of those without."""
    judged = [each["holds"] for each in claims if each["holds"] is not None]
    if claims and not judged:
        return f"{len(claims)} claim{'s' * (len(claims) > 1)} not judged"
    text = f"{sum(judged)} of {len(judged)} claims hold"
    rest = len(claims) - len(judged)
    return f"{text}, {rest} not judged" if rest else text
