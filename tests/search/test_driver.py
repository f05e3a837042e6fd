"""The driver against `train`, and its accounting against sums by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import HyperOptimizer, Problem, train
from shohypernet.fitting import NonFiniteLoss
from shohypernet.hyperparameters import categorical, log, real
from shohypernet.search import Asker, Measured, best_so_far, random_search
from shohypernet.search import _checks as checks
from shohypernet.search._populations import Job, Populations

KEYED = Problem(None, None, None, space={"b": real()})

PAUSES = (
    ([0, 1, 2], [0.0, 2.0, 5.0], 3, [0, 1, 2]),
    ([1, 0], [2.0, 0.0], 1, [1]),
    ([1], [2.0], 4, []),
    ([3, 4], [4.0, 1.0], 2, []),
)


@pytest.fixture(scope="module")
def alone(problem, data, halfway):
    """The weight that `train` gives in one go, for a seed of the driver."""

    @functools.cache
    def call(hyperparam, steps, seed=0):
        key = jax.random.split(jax.random.key(seed))[1]
        start = jnp.float32(hyperparam)
        return train(problem, halfway, key, start, data.train, steps=steps, batch_size=2).params

    return call


def test_a_paused_trial_equals_one_that_never_was(search, scripted, alone):
    method = scripted(*PAUSES)
    result = search(method.search)
    measured = result.measured
    assert measured.trial.tolist() == [0, 1, 2, 1, 0, 1, 3, 4]
    assert measured.steps.tolist() == [3, 3, 3, 4, 4, 8, 2, 2]
    assert measured.hyperparams.tolist() == [0, 2, 5, 2, 0, 2, 4, 1]
    for row in (4, 5, 7):  # paused once, twice and never
        weight = alone(measured.hyperparams[row].item(), measured.steps[row].item())
        np.testing.assert_allclose(measured.valid_loss[row], (weight - 3) ** 2, rtol=1e-5)
    assert [trials for trials, _ in method.told] == [[0, 1, 2], [1, 0], [1], [3, 4]]
    told = [loss for _, losses in method.told for loss in losses]
    np.testing.assert_array_equal(told, measured.valid_loss)

    # The accounting, by hand.
    assert measured.gradient_evaluations.tolist() == [3, 6, 9, 10, 11, 15, 17, 19]
    assert np.all(np.diff(measured.seconds) >= 0)
    assert result.compile_seconds > 0
    valid, test = best_so_far(measured)
    np.testing.assert_array_equal(valid, np.minimum.accumulate(measured.valid_loss))
    np.testing.assert_array_equal(test, valid)  # this problem has them alike
    best = np.argmin(measured.valid_loss)
    assert result.valid_loss == measured.valid_loss[best]
    assert result.hyperparams == measured.hyperparams[best]
    np.testing.assert_allclose((result.params - 3) ** 2, result.valid_loss, rtol=1e-5)


def test_best_so_far_by_hand():
    losses, nothing = np.array([np.nan, 5.0, 6.0, 4.0, np.inf, 4.5, 1.0, 2.0]), np.zeros(8)
    measured = Measured(*[nothing] * 4, losses, np.arange(8.0), hyperparams={}, unconstrained={})
    valid, test = best_so_far(measured)
    assert valid.tolist() == [np.inf, 5, 5, 4, 4, 4, 1, 1]
    assert test[1:].tolist() == [1, 1, 3, 3, 3, 6, 6]


def test_seeds_together_equal_each_alone(search, scripted):
    together = search(scripted(*PAUSES[:1]).search, seeds=(3, 7))
    for i, seed in enumerate((3, 7)):
        alone = search(scripted(*PAUSES[:1]).search, seeds=seed)
        np.testing.assert_allclose(together.valid_loss[i], alone.valid_loss, rtol=1e-5)
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5),
            together.measured[i]._replace(seconds=0),
            alone.measured._replace(seconds=0),
        )
    apart = np.abs(together.measured[0].valid_loss - together.measured[1].valid_loss)
    assert apart.min() > 0


def test_seeds_may_ask_for_other_lengths(search, scripted, alone):
    method = scripted(*PAUSES[:2]).search

    def bind(space, like):
        asker = method.bind(space, like)

        def ask(key, turn):
            turn, proposal = asker.ask(key, turn)
            if proposal and turn == 2:
                proposal = proposal._replace(steps=int(jax.random.randint(key, (), 1, 9)))
            return turn, proposal

        return asker._replace(ask=ask)

    measured = search(method._replace(bind=bind), seeds=(0, 1)).measured
    assert len({tuple(each.steps.tolist()) for each in measured}) == 2
    for seed, each in enumerate(measured):
        weight = alone(2.0, each.steps[3].item(), seed)
        np.testing.assert_allclose(each.valid_loss[3], (weight - 3) ** 2, rtol=1e-5)


def test_little_memory_makes_narrow_populations_and_the_same_losses(problem, data, halfway):
    """An inner run of 1,000 weights goes in and comes out with its momentum, 16 kB."""
    wide = problem._replace(
        init=lambda key: jnp.full(1_000, problem.init(key)),
        train_loss=lambda params, *rest: problem.train_loss(params.mean(), *rest) * 1_000,
        valid_loss=lambda params, *rest: problem.valid_loss(params.mean(), *rest),
    )
    key, losses = jax.random.key(0), []
    for memory, width in ((2**20, 12), (2**16, 4)):
        populations = Populations(wide, halfway, data, 2, memory)
        job = Job(key, [None] * 11, np.arange(11, dtype=np.float32), done=0)
        (outcome,) = populations.run([job], 5)
        assert 1 <= min(populations.widest[1], 12) <= width
        losses.append(outcome.valid_loss)
    assert len(np.unique(losses[0])) == 11
    np.testing.assert_allclose(*losses, rtol=1e-4)
    with pytest.raises(ValueError, match=r"one inner run .* more than memory=8,192; allow more"):
        Populations(wide, halfway, data, 2, 2**13).run([job], 5)


def test_the_last_proposal_is_cut_to_the_budget(search, scripted):
    method = scripted(*PAUSES)
    measured = search(method.search, budget=8).measured
    assert measured.trial.tolist() == [0, 1]
    assert measured.gradient_evaluations.tolist() == [3, 6]
    ((trials, losses),) = method.told
    assert trials == [0, 1, 2]
    assert np.isnan(losses).tolist() == [False, False, True]


def test_what_no_longer_pays_for_one_step_is_told_so(search, scripted):
    method = scripted(*PAUSES)
    measured = search(method.search, budget=13).measured
    assert len(measured.trial) == 5
    trials, losses = method.told[-1]
    assert trials == [1]
    assert np.isnan(losses).tolist() == [True]


def test_a_diverged_trial_is_told_as_infinite(search, scripted):
    proposals = ([0, 1], [2.0, np.inf], 2, []), ([2], [np.nan], 2, [])
    method = scripted(*proposals)
    result = search(method.search)
    assert np.isfinite(method.told[0][1]).tolist() == [True, False]
    assert method.told[1] == ([2], [np.inf])
    assert result.hyperparams == 2.0
    with pytest.raises(NonFiniteLoss, match=r"seeds \[5\].*optax.clip_by_global_norm"):
        search(scripted(proposals[1]).search, seeds=5)


def test_a_proposal_that_failed_is_told_so(search, scripted):
    method = scripted(*PAUSES)
    with pytest.raises(FloatingPointError, match="by the optimizer"):
        search(method.search, optimizer=optax.GradientTransformation(optax.sgd(1.0).init, _fail))
    ((trials, losses),) = method.told
    assert trials == [0, 1, 2]
    assert np.isnan(losses).all()


def _fail(*_):
    raise FloatingPointError("by the optimizer")


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        ([([0], [1.0], 2, []), ([0], [1.0], 2, [])], r"weights of \[0\] weren't kept"),
        ([([0], [1.0], 2, [0]), ([0, 1], [1.0, 1.0], 2, [])], r"have had \[0, 2\] steps"),
    ],
)
def test_impossible_proposals_are_refused(search, scripted, proposals, message):
    with pytest.raises(ValueError, match=message):
        search(scripted(*proposals).search)


METHOD = HyperOptimizer(init=None, step=None, weights=None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 4}, ValueError, "budget of 4 gradient evaluations is below one trial of 5"),
        ({"budget": 0}, ValueError, "budget to be a whole number >= 1, got 0"),
        ({"memory": -1}, ValueError, "memory to be a whole number"),
        ({"batch_size": 0}, ValueError, "batch_size to be a whole number"),
        ({"seeds": (1, 1)}, ValueError, "each once"),
        ({"hyperparams": {"a": 1.0}, "problem": KEYED}, ValueError, "doesn't fit hyperparameters"),
        ({"hyperparams": {}}, ValueError, "is empty; a search needs one hyperparameter"),
        ({"optimizer": 0.1}, TypeError, r"optax optimizer, got float 0.1; write optax.adam\(0.1\)"),
        ({"optimizer": optax.sgd}, TypeError, "call it, with its step size"),
        ({"problem": {"w": np.ones(2)}}, TypeError, r"search.run\(\) needs a shn.Problem"),
        ({"method": METHOD}, TypeError, r"a gradient method is run by shn.fit\(\)"),
        ({"method": random_search}, TypeError, r"call it: shn.search.random_search\(...\)"),
        ({"method": Asker(None, None, None)}, TypeError, "bind of a Search returns"),
        ({"method": "tpe"}, TypeError, "needs a Search, got str; make one"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_traced(
    problem, search, options, error, message
):
    def traced(*_):
        pytest.fail("the problem was traced")

    problem = problem._replace(init=traced, train_loss=traced, valid_loss=traced, space=real())
    method = options.pop("method", random_search(steps=5))
    with pytest.raises(error, match=message):
        search(method, **({"problem": problem} | options))


def test_only_the_form_of_the_hyperparameters_matters():
    """They are given as `fit` takes them, a function of a key included, but no callable tree."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Module:
        decay: jax.Array

        def __call__(self, key):
            pytest.fail("a tree was called")

    space = {"decay": log(1e-3, 1.0), "act": categorical((64,), (64, 64))}
    for given in (
        {"decay": np.array([7, -9]), "act": (64, 64)},
        lambda key: {"decay": jax.random.normal(key, (2,)), "act": jnp.zeros(())},
    ):
        shapes = jax.tree.map(np.shape, checks.zeros_like(space, given))
        assert shapes == {"decay": (2,), "act": ()}
    assert checks.zeros_like(real(), Module(jnp.zeros(3))).decay.shape == (3,)


def test_data_that_are_not_finite_are_named(search, scripted, data):
    corrupted = data._replace(train=data.train.at[3].set(jnp.nan))
    with pytest.raises(NonFiniteLoss, match=r"seeds \[0\].*data.train holds NaN or infinite"):
        search(scripted(*PAUSES[:1]).search, data=corrupted, batch_size=None)


def test_optimizers_of_several_minibatches_serve(search, scripted):
    """Of two steps MultiSteps makes one, with the mean of their gradients."""
    proposals = ([0, 1], [2.0, 5.0], 4, [])
    # Without a batch_size all steps have the same examples, and noise of 1 %.
    half = {"optimizer": optax.MultiSteps(optax.sgd(0.5), 2), "batch_size": None}
    several = search(scripted(proposals).search, **half)
    twice = ([0, 1], [2.0, 5.0], 2, [])
    plain = search(scripted(twice).search, optimizer=optax.sgd(0.5), batch_size=None)
    np.testing.assert_allclose(several.params, plain.params, atol=0.05)


def test_an_optimizer_that_draws_goes_on_from_its_own_key(search, scripted, problem, data):
    """`add_noise` keeps a PRNG key in its state, which the host's NumPy has no type for."""
    noisy = optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(3)), optax.sgd(0.5))
    result = search(scripted(*PAUSES).search, optimizer=noisy)
    key = jax.random.split(jax.random.key(0))[1]
    measured = result.measured
    for row in (4, 5, 7):
        weight = train(
            problem,
            noisy,
            key,
            measured.hyperparams[row],
            data.train,
            steps=int(measured.steps[row]),
            batch_size=2,
        ).params
        np.testing.assert_allclose(measured.valid_loss[row], (weight - 3) ** 2, rtol=1e-5)


def test_unread_hyperparameters_and_losses_that_are_no_scalars_are_refused(search, problem):
    space = {"shift": real(), "unused": real()}
    start = {"shift": 0.0, "unused": 0.0}

    def train_loss(params, hyperparams, batch, key):
        return (params - hyperparams["shift"] - jnp.mean(batch)) ** 2 / 2

    named = problem._replace(train_loss=train_loss, space=space)
    with pytest.raises(ValueError, match="hyperparameter unused enters neither loss"):
        search(random_search(steps=2), problem=named, hyperparams=start)
    vector = problem._replace(valid_loss=lambda params, hyperparams, batch: batch - params)
    with pytest.raises(ValueError, match="valid_loss must return a floating-point scalar"):
        search(random_search(steps=2), problem=vector)
