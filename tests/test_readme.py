"""The README's example is the quickstart's; docs/flax_model.md's are run, and do what it says.

These are one program, compiled as users compile; the first two with fewer steps.
"""

import os
import subprocess
import sys

from pages import blocks, shortened

OWN, DRAWN, WHAT_IF, AGAIN, MANY = blocks("docs/flax_model.md")

# Of the report's trainings two are long enough to tell.
SURVIVES = """
sizes = {"optimizer": optax.adam(1e-3), "steps": 1_000, "batch_size": 100}
at_start, at_tuned = (
    shn.retrain(problem, chosen, data, **sizes).losses.test
    for chosen in (problem.start, result)
)
assert at_tuned < 0.9 * at_start, (at_tuned, at_start)
"""
# What the third must have come to, in the names that it leaves behind.
MOVED = """
first, last = (result.history.hyperparams["layers_0"]["kernel"][i] for i in (0, -1))
assert (first != last).mean() > 0.5  # not of pixels that are never lit
"""


def test_the_readme_is_the_quickstart():
    """Which tests/test_pages.py runs."""
    assert blocks("docs/quickstart.md") == blocks("README.md")


def test_the_examples_run_and_what_the_first_finds_survives_training_again(tmp_path):
    """From other weights and on more images."""
    own = shortened(OWN, steps=("600", 300), warmup_rounds=("100", 50))
    again = shortened(AGAIN, steps=("3_000", 20))
    program = own + DRAWN + WHAT_IF + again + SURVIVES + MANY + MOVED
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"XLA_FLAGS": ""},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "dropout" in done.stdout
    assert (tmp_path / "what_if.png").exists()
    assert "test loss at the tuned" in done.stdout
