"""A hypernet with steps behind it at a small size: what is run, counted and claimed."""

from types import SimpleNamespace

import numpy as np
import pytest

from configs import unrolled_response as configs
from experiments import _decay_problem, _unrolled_step_sizes, unrolled_response


def test_what_it_runs_and_counts(data, tmp_path, monkeypatch):
    monkeypatch.setattr(_decay_problem, "load_data", lambda config: data)
    monkeypatch.setattr(_unrolled_step_sizes, "search", lambda *arguments: [(1e-3, 0.01)])
    config = configs.get_config("quick")
    config.batch_size = 20
    results = unrolled_response.run(config, tmp_path)
    (found,) = results["networks"].values()
    # Rounds of 10 + 1, 10 + 3 · 5 + 1, and 10 + 2 · 5 + 1, within 200.
    spent = [each["gradient_evaluations"] for each in found.values()]
    assert spent == [18 * 11, 6 * 26, 8 * 21]
    assert len(results["claims"]) == 2
    assert (tmp_path / "unrolled_response.png").exists()


def _chosen(end, seconds):
    history = SimpleNamespace(
        valid_loss=np.array([[1.0], [end]]),
        test_loss=np.array([[1.0], [end]]),
        seconds=np.array([0.0, seconds]),
    )
    return SimpleNamespace(result=SimpleNamespace(history=history))


@pytest.mark.parametrize(
    ("end", "seconds", "expected"),
    [(0.4, 10.0, [True, True]), (0.4, 40.0, [True, False]), (0.6, 10.0, [False, False])],
)
def test_its_claims_can_fail(end, seconds, expected):
    chosen = {
        unrolled_response.ALONE: _chosen(0.5, 10.0),
        unrolled_response.WITH_STEPS: _chosen(end, seconds),
    }
    assert [claim["holds"] for claim in unrolled_response.claims("784-10", chosen)] == expected
