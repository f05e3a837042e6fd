"""Many weights from few numbers, at a small size, and the judge of the claims."""

import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from configs import chunked_hypernet as configs
from experiments import _launch, chunked_hypernet
from experiments.chunked_hypernet import Width

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    arguments = [f"--config={CONFIG}:quick", "--config.widths=(4,)", f"--workdir={folder}"]
    _launch.main(chunked_hypernet.run, arguments)
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None, None]
    weights, chunked, dense = results["numbers"]["784-4-4-10"]
    assert weights == 785 * 4 + 5 * 4 + 5 * 10
    # λ₀, embeddings, the hidden layer, the last one, and three for each of six arrays.
    chunks = -(-784 * 4 // 16) + 1 + 1 + 1 + 3 + 1
    assert chunked == 3 + 4 * chunks + (4 + 3 + 1) * 4 + (4 + 1) * 16 + 3 * 6
    assert dense >= 5 * weights
    assert np.shape(results["plain"]["784-4-4-10"]) == (1, 2)


@pytest.mark.parametrize(
    ("numbers", "losses", "expected"),
    [
        ((10**7, 10**6), (0.2, 0.19), [True, True]),
        ((10**7, 10**6 + 1), (0.2, 0.18), [False, False]),
        ((10**7 - 1, 10), (0.1, 0.18), [False, True]),
    ],
)
def test_its_claims_can_fail(numbers, losses, expected):
    tuned, plain = losses
    history = SimpleNamespace(valid_loss=np.array([[2.3], [tuned]]), test_loss=np.array([[0.3]]))
    wide = Width(*numbers, 10**9, SimpleNamespace(history=history), np.array([[plain, 0.3]]))
    narrow = wide._replace(weights=10, chunked=100)
    found = chunked_hypernet.claims({"narrow": narrow, "wide": wide})
    assert [claim["holds"] for claim in found] == expected
