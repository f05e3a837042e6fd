"""Decays under priors, at a small size, and the judge of it."""

import json
import pathlib

import numpy as np

from configs import hyper_regularization as configs
from experiments import _launch, hyper_regularization

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(hyper_regularization.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None]
    assert len(results["main"]) == 3  # one prior, twice, and one single decay
    assert list(results["in the run"]) == ["a prior of 0.3"]
    with np.load(folder / "hyper_regularization.npz") as arrays:
        assert arrays["retrained"].shape == arrays["over_n"].shape == (1, 2, 3)
        assert np.abs(arrays["retrained"] - arrays["over_n"]).max() > 0


def test_what_is_chosen_by_one_half_is_judged_by_the_other():
    def losses(first, second):
        """Of three seeds, whose losses on the second half differ a little."""
        return np.array([[0, first, second + wiggle] for wiggle in (-0.001, 0, 0.001)])

    single = {-7.0: losses(0.5, 0.40), -5.0: losses(0.4, 0.5)}
    retrained = {
        "one decay for each layer": losses(0.1, 0.1),
        "a prior of 1": losses(0.3, 0.45),
        "no prior": losses(0.35, 0.2),
    }
    claim = hyper_regularization._claim(single, retrained)
    assert claim["holds"]
    assert "0.45000 (a prior of 1) against 0.50000 (one decay of exp(-5))" in claim["measured"]
    # The same for all seeds, as here, has no error; one that scatters has to be far away.
    retrained["a prior of 1"] += np.array([[0, 0, 0.2], [0, 0, -0.2], [0, 0, 0]])
    assert not hyper_regularization._claim(single, retrained)["holds"]
