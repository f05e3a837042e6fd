"""The README's examples are run as they stand, so that they cannot go stale.

The first two, the shop window, are run by a program of their own, compiled as users compile. What
follows builds on their names, for which fewer steps do.
"""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np

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


def test_what_is_found_survives_training_again(tmp_path):
    """From other weights and on more images."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OWN + AGAIN],
        cwd=tmp_path,
        env=os.environ | {"XLA_FLAGS": ""},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "dropout" in done.stdout
    losses = dict(line.split() for line in done.stdout.splitlines()[-3:])
    start, tuned, schedule = (float(losses[name]) for name in ("start", "tuned", "schedule"))
    assert max(tuned, schedule) < 0.8 * start


def test_the_other_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the shared study lands
    names = {}

    def run(code):
        exec(compile(code, "README.md", "exec"), names)

    run(shortened(OWN, steps=("1_000", 2), warmup_rounds=("100", 0)))
    run(MANY)
    history = names["result"].history
    first, last = (history.hyperparams["layers_0"]["kernel"][i] for i in (0, -1))
    assert np.mean(first != last) > 0.5  # not of pixels that are never lit
    run(DEVICES)
    assert len(names["result"].history.step) == 11
    for code in (SEARCH, SHARED):
        run(code)
        assert names["found"].valid_loss < 0.8
    assert (tmp_path / "study.db").exists()
