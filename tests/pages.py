"""The Python blocks of README.md and of the pages in docs/, which tests run as they stand."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def blocks(page):
    """The page's blocks of Python, in order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def run(page, edit=lambda code: code):
    """What the page's blocks define, run in order as one program; `edit` may shorten their runs."""
    found = {"__name__": pathlib.Path(page).stem}
    exec(compile(edit("".join(blocks(page))), page, "exec"), found)
    return found


def shortened(code, **counts):
    """Code with other numbers for some keyword arguments, wherever they have the number given."""
    for name, (there, fewer) in counts.items():
        code, found = re.subn(rf"\b{name}=({there})\b", f"{name}={fewer}", code)
        assert found, f"there is no {name}={there}"
    return code
