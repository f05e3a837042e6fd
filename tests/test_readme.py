"""The README's examples are run in order, so that they cannot go stale.

They are one program, compiled as users compile; the first two, the shop window, with fewer steps.
"""

import os
import pathlib
import re
import subprocess
import sys

README = pathlib.Path(__file__).parent.parent / "README.md"
OWN, AGAIN, MANY, DEVICES, SEARCH, SHARED = re.findall(
    r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL
)


def shortened(code, **counts):
    """Code with other numbers for some keyword arguments, each of which occurs once."""
    for name, (there, fewer) in counts.items():
        assert code.count(f"{name}={there}") == 1
        code = code.replace(f"{name}={there}", f"{name}={fewer}")
    return code


# What each of the others must have come to, in the names that it leaves behind.
MOVED = """
first, last = (result.history.hyperparams["layers_0"]["kernel"][i] for i in (0, -1))
assert (first != last).mean() > 0.5  # not of pixels that are never lit
"""
STEPPED = "assert len(result.history.step) == 11\n"
FOUND = "assert found.valid_loss < 0.8, found.valid_loss\n"


def test_the_examples_run_and_what_the_first_finds_survives_training_again(tmp_path):
    """From other weights and on more images."""
    own = shortened(OWN, steps=("600", 300), warmup_rounds=("100", 50))
    again = shortened(AGAIN, steps=("3_000", 1_000)) + "print()\n"
    others = MANY + MOVED + DEVICES + STEPPED + SEARCH + FOUND + SHARED + FOUND
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", own + again + others],
        cwd=tmp_path,  # where the shared study lands
        env=os.environ | {"XLA_FLAGS": ""},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    described, *_ = done.stdout.split("\n\n")
    assert "dropout" in described
    losses = dict(line.split() for line in described.splitlines()[-3:])
    start, tuned, schedule = (float(losses[name]) for name in ("start", "tuned", "schedule"))
    assert max(tuned, schedule) < 0.9 * start
    assert (tmp_path / "study.journal").exists()
