"""The experiment that is there to be copied, at a small size."""

import json
import pathlib

import numpy as np
import pytest

from configs import _template as configs
from experiments import _launch, _template

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(_template.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    made = {f"_template.{ending}" for ending in ("png", "pdf", "npz")}
    assert {path.name for path in folder.iterdir()} == made | {
        "fit",
        "config.json",
        "results.json",
    }
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None, None]
    with np.load(folder / "_template.npz") as arrays:
        for name in (_template.START, _template.SEARCHED, _template.TUNED):
            assert results["main"][f"test loss, {name}"] == arrays[name].tolist()
            assert arrays[name].shape == (1,)


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [
        ((0.1, 0.2), [True, True]),
        ((0.3, 0.1), [True, True]),
        ((0.3, 0.2), [True, False]),
        ((0.1, 0.5), [False, False]),
    ],
)
def test_its_claims_can_fail(tuned, expected):
    losses = {
        _template.START: np.array([0.4, 0.4]),
        _template.SEARCHED: np.array([0.2, 0.25]),
        _template.TUNED: np.array(tuned),
    }
    assert [claim["holds"] for claim in _template.claims(losses)] == expected
