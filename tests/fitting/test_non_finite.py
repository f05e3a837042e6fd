"""Runs whose losses or hyperparameters become NaN or infinite."""

import re

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from walks import DATA, PROBLEM, assert_identical, at_step, calm, never_taken, steps_logged, walk

import shohypernet as shn
from shohypernet.batches import Data, Examples
from shohypernet.fitting import NonFiniteLoss


@pytest.mark.parametrize(
    ("field", "value", "name", "cause"),
    [
        ("train_loss", np.nan, "the training loss", "too large for the weights"),
        ("valid_loss", np.inf, "the validation loss of the step's batch", "training loss is fini"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(
    field, value, name, cause, calm_result, tmp_path
):
    method = walk(
        on_step=at_step(7, lambda state, info: (state, info._replace(**{field: value}))),
    )
    with pytest.raises(
        NonFiniteLoss,
        match=rf"^{name} is not finite at step 7, seeds \[0, 5\].*of step 4 is kept.*{cause}",
    ):
        calm(method, workdir=tmp_path)
    assert steps_logged(tmp_path) == [0, 2, 4, 6]
    # Whoever goes on from the checkpoint meets the same loss at the same step.
    with pytest.raises(NonFiniteLoss, match="step 7"):
        calm(method, workdir=tmp_path, resume=True)
    result = calm(workdir=tmp_path, resume=True)
    assert_identical(result, calm_result)


def losing(numbers, lost, step):
    """A walk whose training loss becomes NaN for some of the seeds, by their random numbers."""
    threshold = float(np.sort(numbers)[lost])

    def corrupt(state, info):
        corrupted = jnp.where(state.number < threshold, jnp.nan, info.train_loss)
        poisoned = jnp.where(state.number < threshold, jnp.nan, state.params)
        return state._replace(params=poisoned), info._replace(train_loss=corrupted)

    return walk(on_step=at_step(step, corrupt)), np.flatnonzero(numbers < threshold).tolist()


def test_a_seed_that_goes_wrong_ends_alone(tmp_path):
    alone = calm(seeds=range(4), steps=8)
    numbers = calm(seeds=range(4), steps=2).state.number
    method, lost = losing(numbers, 2, 3)
    with pytest.warns(RuntimeWarning, match=f"2 of the seeds.*\nseed {lost[0]}: the training loss"):
        result = calm(method, seeds=range(4), steps=8, workdir=tmp_path)
    assert sorted(result.lost) == lost
    for seed in range(4):
        if seed in lost:
            assert "the training loss is not finite at step 3. A step" in result.lost[seed]
            assert "lost: the training loss" in result.seed(seed).describe()
        else:
            assert not result.seed(seed).lost
            assert_identical(result.seed(seed), alone.seed(seed))
    # Whoever goes on is told of them again.
    with pytest.warns(RuntimeWarning, match=r"2 of the seeds(.|\n)*not finite by step 4"):
        again = calm(method, seeds=range(4), steps=12, workdir=tmp_path, resume=True)
    assert sorted(again.lost) == lost


def test_only_the_seeds_that_went_wrong_are_named():
    numbers = calm(seeds=range(4), steps=2).state.number
    method, lost = losing(numbers, 3, 3)
    with pytest.warns(RuntimeWarning, match="3 of the seeds"):
        result = calm(method, seeds=range(4))
    assert sorted(result.lost) == lost

    def corrupt(state, info):
        return state, info._replace(train_loss=info.train_loss * jnp.nan)

    everyone = re.escape("step 3, seeds [0, 1, 2, 3]. No checkpoint")
    with pytest.raises(NonFiniteLoss, match=everyone):
        calm(walk(on_step=at_step(3, corrupt)), seeds=range(4))


def test_a_loss_that_only_an_evaluation_finds_stops_the_run(tmp_path):
    # The steps never see the test split, nor the weights after the chunk's last step.
    problem = PROBLEM._replace(
        valid_loss=lambda params, hyperparams, batch: jnp.where(
            (params > 30) & (batch.shape == (1,)), jnp.inf, params
        )
    )
    weights = calm(problem=problem, steps=2, seeds=[0], eval_every=1).history.valid_loss
    assert weights[-1] < 30
    message = r"^the validation loss on all test examples is not finite at step \d*[02468], seeds"
    with pytest.raises(NonFiniteLoss, match=message):
        calm(problem=problem, workdir=tmp_path, steps=40)


def test_bad_values_in_data_are_found_before_the_first_step(tmp_path):
    data = DATA._replace(valid=np.array([0.5, -np.inf], "f"), test=np.array([np.nan], "f"))
    with pytest.raises(
        NonFiniteLoss, match=r"step 0, seeds \[0, 5\]. No .* data.valid, data.test holds NaN or inf"
    ):
        calm(never_taken(), data=data, workdir=tmp_path)
    calm(workdir=tmp_path)  # nothing stands in the way


def test_a_start_from_keys_that_is_not_finite_is_found_before_the_first_step():
    with pytest.raises(
        NonFiniteLoss, match=r"hyperparameter λ̂ is not finite at step 0.*inside the range"
    ):
        calm(never_taken(), lambda key: jnp.full(2, jnp.nan))


def test_bad_values_that_no_loss_lets_through_do_no_harm(calm_result):
    problem = PROBLEM._replace(
        valid_loss=lambda params, hyperparams, batch: params * jnp.nanmean(batch)
    )
    data = DATA._replace(test=np.array([4.0, np.nan], np.float32))
    result = calm(problem=problem, data=data)
    np.testing.assert_allclose(result.history.test_loss, calm_result.history.test_loss, rtol=1e-6)


def test_a_loss_that_is_not_finite_from_the_start_says_so():
    problem = PROBLEM._replace(
        valid_loss=lambda params, hyperparams, batch: jnp.log(params - 2) * batch.mean()
    )
    with pytest.raises(NonFiniteLoss, match=r"step 0, .*No step was taken yet, so a loss itself"):
        calm(never_taken(), problem=problem)


def test_hyperparams_that_are_not_finite_stop_the_run():
    method = walk(
        on_step=at_step(
            12, lambda state, info: (state._replace(hyperparams=state.hyperparams / 0), info)
        )
    )
    with pytest.raises(NonFiniteLoss, match=r"^hyperparameter λ̂ is .*step 12.*hyper_optimizer"):
        calm(method)


def test_all_that_is_not_finite_at_that_step_is_named():
    def corrupt(state, info):
        corrupted = info._replace(train_loss=jnp.nan)
        return state._replace(hyperparams=state.hyperparams / 0), corrupted

    message = r"^the training loss, hyperparameter λ̂ are not finite at step 12"
    with pytest.raises(NonFiniteLoss, match=message):
        calm(walk(on_step=at_step(12, corrupt)))


def test_fit_says_how_many_estimates_of_the_curvature_it_left_out():
    """|r|^{3/2} has a slope at r = 0, and no curvature; an example of zeros is always there."""
    inputs = np.eye(4, 3, dtype=np.float32)
    examples = Examples(inputs, inputs.sum(1, keepdims=True))
    problem = shn.supervised(
        nn.Dense(1, use_bias=False),
        inputs[:1],
        lambda outputs, targets: jnp.mean(jnp.abs(outputs - targets) ** 1.5),
        lambda params, decay: decay * optax.tree.norm(params, squared=True),
        space=shn.hyperparameters.log(),
    )
    method = shn.centered_response(
        problem,
        shn.jacobians.kronecker(refresh_every=1),
        optimizer=optax.sgd(0.1),
        hyper_optimizer=optax.sgd(0.1),
    )
    with pytest.warns(RuntimeWarning, match=r"left out: 3 of seed 5, 3 of seed 7\."):
        result = shn.fit(problem, method, Data(examples, examples), 0.1, steps=3, seeds=(5, 7))
    assert np.isfinite(result.history.valid_loss).all()
