"""Splits that are gone through in an order, and splits that are simulated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import sources
from shohypernet.batches import Data, Examples

RATE = 0.05
SGD = optax.sgd(RATE)


def order(seed=0, passes=7, size=4):
    """Seven minibatches."""
    rng = np.random.default_rng(seed)
    for _ in range(passes):
        inputs = rng.normal(size=(size, 3)).astype(np.float32)
        yield Examples(inputs, inputs.sum(1) + rng.normal(size=size).astype(np.float32))


@pytest.fixture
def problem():
    return shn.Problem(
        lambda key: jnp.zeros(3),
        lambda w, lam, batch, key: (
            jnp.mean((batch.inputs @ w - batch.targets) ** 2) + lam * jnp.sum(w**2)
        ),
        lambda w, lam, batch: jnp.mean((batch.inputs @ w - batch.targets) ** 2),
        space=shn.hyperparameters.log(),
    )


@pytest.fixture
def tune(problem):
    def call(data, rate=RATE, **options):
        hyper_optimizer = optax.sgd(rate)
        method = shn.truncated(
            problem, backward_steps=1, optimizer=SGD, hyper_optimizer=hyper_optimizer
        )
        return shn.fit(problem, method, data, 0.1, **({"steps": 6, "inner_steps": 2} | options))

    return call


@pytest.fixture
def streams():
    return Data(
        sources.stream(order, evaluated=3), sources.stream(lambda: order(1), evaluated=2), None
    )


def trained_by_hand(steps, decay=0.1):
    """SGD in NumPy through the order, again and again."""
    weights = np.zeros(3)
    batches = itertools.islice(itertools.cycle(order()), steps)
    for inputs, targets in batches:
        slope = 2 * inputs.T @ (inputs @ weights - targets) / len(targets)
        weights = weights - RATE * (slope + 2 * decay * weights)
    return weights


def test_training_goes_through_the_order_again_and_again(problem, streams, key):
    trained = shn.train(problem, SGD, key, 0.1, streams.train, steps=17)
    np.testing.assert_allclose(trained.params, trained_by_hand(17), rtol=1e-5)


@pytest.mark.parametrize("seeds", [0, [0, 1]])
def test_a_round_takes_the_next_minibatches_for_all_seeds_alike(tune, streams, seeds):
    """The weights start at zero for each seed, and λ moves too little to matter."""
    result = tune(streams, rate=1e-5, seeds=seeds)
    for weights in np.reshape(result.params, (-1, 3)):
        np.testing.assert_allclose(weights, trained_by_hand(12), rtol=1e-4)


def test_losses_on_the_whole_split_are_those_on_the_first_minibatches(tune, streams):
    result = tune(streams)
    first = list(itertools.islice(order(), 3))
    error = [np.mean((inputs @ result.params - targets) ** 2) for inputs, targets in first]
    np.testing.assert_allclose(result.history.valid_loss_on_train[-1], np.mean(error), rtol=1e-5)


def test_a_resumed_run_reads_what_it_would_have_read(tune, tmp_path):
    def fresh():
        return Data(
            sources.stream(order, evaluated=3), sources.stream(lambda: order(1), evaluated=2)
        )

    whole = tune(fresh())
    tune(fresh(), workdir=tmp_path, steps=3, eval_every=3)
    resumed = tune(fresh(), workdir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.params, whole.params)
    np.testing.assert_array_equal(resumed.hyperparams, whole.hyperparams)
    other = fresh()._replace(train=sources.stream(lambda: order(2), evaluated=3))
    with pytest.raises(ValueError, match=r"data\.train: was 'stream of minibatches of 4"):
        tune(other, workdir=tmp_path, resume=True, steps=9)


def test_minibatches_are_found_in_any_order_of_asking():
    stream = sources.stream(order, evaluated=1)
    expected = list(itertools.islice(itertools.cycle(order()), 40))
    for number in (0, 1, 1, 9, 30, 2, 39, 38, 0):
        np.testing.assert_array_equal(stream.at(number).inputs, expected[number].inputs)


def test_simulated_examples_are_those_of_their_keys(tune, key):
    def make(key):
        inputs = jax.random.normal(key, (3,))
        return Examples(inputs, inputs.sum())

    def split(count, seed):
        keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(seed), n))(jnp.arange(count))
        return jax.vmap(make)(keys)

    sizes = {"train_batch_size": 4, "valid_batch_size": 3}
    simulated = Data(*(sources.generated(make, n, seed=n) for n in (40, 30, 20)))
    held = Data(*(split(n, n) for n in (40, 30, 20)))
    found, expected = (tune(data, **sizes) for data in (simulated, held))
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-6)
    np.testing.assert_allclose(found.history.test_loss, expected.history.test_loss, rtol=1e-5)


def test_refusals(tune, problem, streams, key):
    with pytest.raises(TypeError, match=r"gone through again.*got a generator.*lambda: batches"):
        sources.stream(order(), evaluated=1)
    with pytest.raises(TypeError, match="got a int"):
        sources.stream(3, evaluated=1)
    with pytest.raises(ValueError, match="as many minibatches, got 7"):
        sources.stream(order, evaluated=8)
    with pytest.raises(ValueError, match=r"alike: got shapes.*\(3, 3\).*after.*\(4, 3\).*drop it"):
        sources.stream(lambda: [*order(), *order(size=3)], evaluated=8)
    with pytest.raises(ValueError, match=r"alike: got.*'x': \*.*after.*'x': \*, 'y': \*"):
        sources.stream(lambda: [{"x": np.ones(1), "y": np.ones(1)}, {"x": np.ones(1)}], evaluated=2)
    with pytest.raises(TypeError, match="a single Examples; arrays are a split"):
        sources.stream(Examples(np.zeros((4, 3)), np.zeros(4)), evaluated=1)
    same = order()
    with pytest.raises(TypeError, match="the same again"):
        sources.stream(lambda: same, evaluated=1)
    with pytest.raises(ValueError, match="once for all seeds"):
        tune(streams, seeds=[0, 1], seeds_at_once=1)
    with pytest.raises(ValueError, match="a stream for each split"):
        tune(streams._replace(valid=streams.train))
    with pytest.raises(ValueError, match="up to 2,147,483,647"):
        sources.generated(lambda key: 0.0, 3_000_000_000)
    with pytest.raises(ValueError, match="evaluated"):
        sources.stream(order, evaluated=0)
    with pytest.raises(ValueError, match="the size that they come in, 4, not 5"):
        tune(streams, train_batch_size=5)
    with pytest.raises(ValueError, match=r"stream, data.train, .* axis 'seeds'.*random"):
        tune(streams, mesh=jax.make_mesh((1,), ("seeds",)), seeds=[0])
    random = shn.search.random_search(steps=5)
    with pytest.raises(TypeError, match="no random access"):
        shn.search.run(problem, random, streams, 0.1, optimizer=SGD, budget=20, batch_size=4)
    once = [order(), *[iter(())] * 3]
    spent = sources.stream(lambda: once.pop(0) if len(once) < 4 else list(order()), evaluated=1)
    once.pop()
    with pytest.raises(ValueError, match="the second time there were no minibatches"):
        spent.at(20)
    uneven = sources.stream(lambda: [*order(), *order(size=3)], evaluated=7)
    with pytest.raises(
        ValueError, match=r"minibatch 7 of a stream isn't like the first: got shapes"
    ):
        uneven.at(7)
    with pytest.raises(TypeError, match=r"sources.generated\(\) traces"):
        sources.generated(lambda key: 1.0 if jax.random.bernoulli(key) else 0.0, 3)


def test_an_error_of_the_order_does_not_stay():
    """A disk that was away for a moment."""
    away = [False]

    def batches():
        for batch in order():
            if away[0]:
                raise OSError("disk away")
            yield batch

    stream = sources.stream(batches, evaluated=1)
    away[0] = True
    with pytest.raises(OSError, match="disk away"):
        stream.at(2)
    away[0] = False
    np.testing.assert_array_equal(stream.at(2).inputs, list(order())[2].inputs)
