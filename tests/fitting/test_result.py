"""A run's result: of one seed or of several, shown, pickled and saved."""

import pickle

import chex
import jax
import numpy as np
import pytest
from walks import assert_identical, calm, run

import shohypernet as shn


@pytest.fixture(scope="module")
def of_one():
    return calm(seeds=5)


def test_a_seed_given_as_a_number_has_no_axis(of_one, calm_result):
    history = of_one.history
    assert of_one.seeds == 5
    assert history.valid_loss.shape == history.hypergradient_norm.shape == (7,)
    assert history.hyperparams.shape == history.unconstrained.shape == (7, 2)
    assert of_one.hyperparams.shape == of_one.unconstrained.shape == (2,)
    assert of_one.params.shape == of_one.state.number.shape == ()
    assert_identical(of_one, calm(seeds=[5]).seed(0))
    np.testing.assert_allclose(of_one.state.number, calm_result.state.number[1], rtol=1e-6)
    assert of_one.seed(0) is of_one


def test_seeds_are_chosen_by_position(calm_result):
    assert calm_result.seeds == (0, 5)
    for index in (1, -1):
        second = calm_result.seed(index)
        assert second.seeds == 5
        for field in ("hyperparams", "unconstrained", "params", "state"):
            chex.assert_trees_all_equal(
                getattr(second, field),
                jax.tree.map(lambda leaf: leaf[1], getattr(calm_result, field)),
            )
        history = calm_result.history
        np.testing.assert_array_equal(second.history.valid_loss, history.valid_loss[:, 1])
        np.testing.assert_array_equal(second.history.hyperparams, history.hyperparams[:, 1])
        np.testing.assert_array_equal(second.history.step, history.step)
        np.testing.assert_array_equal(second.history.seconds, history.seconds)
    with pytest.raises(IndexError, match=r"seed\(2\) is none of 2 seeds, by position: \(0, 5\)"):
        calm_result.seed(2)


def test_a_result_shows_shapes_and_losses_and_no_arrays(of_one, calm_result):
    loss = of_one.history.valid_loss[-1]
    assert repr(of_one) == (
        f"Result(seeds=5, steps=12, valid_loss={loss:.4g}., test_loss={4 * loss:.4g}., "
        "hyperparams=float32[2], params=float32[])"
    )
    assert "seeds=(0, 5), steps=12, valid_loss=[" in repr(calm_result)
    assert "hyperparams=float32[2, 2]" in repr(calm_result)


def test_a_result_describes_each_seed(calm_result):
    lines = calm_result.describe().splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("seed 0, after 12 steps, 36 gradient evaluations and ")
    assert lines[1] == "  loss 73 on validation, 292 on test, 219 on training examples"
    assert lines[2] == "  hyperparameters -1.625 [-2, -1.25]"
    assert lines[3].startswith("seed 5, ")


def test_results_can_be_pickled(calm_result):
    again = pickle.loads(pickle.dumps(calm_result))
    assert type(again) is shn.Result
    assert_identical(again, calm_result)


@pytest.mark.parametrize("seeds", [5, (0, 5)])
def test_a_saved_result_comes_back_without_its_state(seeds, tmp_path):
    result = run(seeds=seeds)
    result.save(tmp_path / "result.npz")
    for again in (shn.Result.load(tmp_path / "result.npz"), shn.load(tmp_path / "result.npz")):
        assert type(again) is shn.Result
        assert type(again.history) is shn.History
        assert again.state is None
        assert again.seeds == result.seeds
        assert again.compile_seconds == result.compile_seconds
        assert_identical(again, result._replace(state=None))
        assert again.seed(0).seeds == result.seed(0).seeds
    with pytest.raises(FileExistsError):
        result.save(tmp_path / "result.npz")
    result.save(tmp_path / "result.npz", overwrite=True)
    shn.save(tmp_path / "weights.npz", result.params)
    with pytest.raises(ValueError, match="holds a ndarray, not a Result"):
        shn.Result.load(tmp_path / "weights.npz")


def test_the_schedule_of_a_run_is_its_history_between_evaluations(of_one):
    history = of_one.history
    for share in (0.0, 0.13, 0.5, 0.99, 1.0):
        expected = [
            np.interp(share * history.step[-1], history.step, values)
            for values in history.hyperparams.T
        ]
        np.testing.assert_allclose(history.schedule(share), expected, rtol=1e-5, atol=1e-6)
