"""The examples of docs/searches.md are run, one with fewer trials, and find what they should."""

import numpy as np
import pages
import pytest


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks define, run in order in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        return pages.run("docs/searches.md", lambda code: pages.shortened(code, trials=("20", 2)))


def test_the_search_finds_better_than_its_first_trial(names):
    result = names["found"]
    measured = result.measured
    assert measured.hyperparams["width"][0] == 1
    np.testing.assert_allclose(measured.hyperparams["step_size"][0], 1e-3, rtol=1e-5)
    assert len(np.unique(measured.trial)) == 10
    assert result.valid_loss < measured.valid_loss[0] / 2
    assert measured.hyperparams["step_size"][np.argmin(measured.valid_loss)] > 1e-3


def test_what_is_saved_is_found_again(names):
    assert names["again"].valid_loss == names["found"].valid_loss
    np.testing.assert_array_equal(
        names["again"].measured.valid_loss, names["found"].measured.valid_loss
    )


def test_what_was_inactive_is_told(names):
    result = names["tree"]
    table = result.to_pandas()
    assert len(table) == 2
    assert table["kind"][0] == "adam"
    np.testing.assert_array_equal(table["momentum"].isna(), table["kind"] == "adam")
    np.testing.assert_array_equal(table["second"].isna(), table["depth"] == 1)
    trials = result.states.study.optuna.get_trials()
    assert set(trials[0].params) == {"kind", "depth", "step_size"}


def test_the_shared_study_has_its_trials(names):
    assert len(names["best"].measured.trial) == 2
