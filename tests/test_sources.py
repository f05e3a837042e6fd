"""Splits that are read from a disk: results are those of the same data in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import sources
from shohypernet.batches import Data, Examples, minibatch

SGD = optax.sgd(0.05)
SIZES = {"train_batch_size": 4, "valid_batch_size": 3}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)

    def split(count):
        inputs = rng.normal(size=(count, 3)).astype(np.float32)
        return Examples(inputs, inputs.sum(1) + rng.normal(size=count).astype(np.float32))

    return Data(split(40), split(30), split(20))


@pytest.fixture(scope="module")
def mapped(arrays, tmp_path_factory):
    """The same in files, memory-mapped."""
    folder = tmp_path_factory.mktemp("arrays")

    def split(name):
        def on_disk(field):
            path = folder / f"{name}-{field}.npy"
            np.save(path, getattr(getattr(arrays, name), field))
            return np.load(path, mmap_mode="r")

        return sources.rows(Examples(on_disk("inputs"), on_disk("targets")))

    return Data(*map(split, Data._fields))


@pytest.fixture(scope="module")
def problem():
    return shn.Problem(
        lambda key: jnp.zeros(3),
        lambda w, lam, batch, key: (
            jnp.mean((batch.inputs @ w - batch.targets) ** 2) + lam * jnp.sum(w**2)
        ),
        lambda w, lam, batch: jnp.mean((batch.inputs @ w - batch.targets) ** 2),
        space=shn.hyperparameters.log(),
    )


@pytest.fixture(scope="module")
def tune(problem):
    method = shn.truncated(problem, backward_steps=1, optimizer=SGD, hyper_optimizer=SGD)

    def call(data, **options):
        return shn.fit(problem, method, data, 0.1, **(SIZES | {"steps": 6} | options))

    return call


def test_minibatches_are_those_of_the_same_arrays(arrays, mapped, key):
    for size in (5, (2, 3), ()):
        drawn = minibatch(key, mapped.train, size)
        jax.tree.map(np.testing.assert_array_equal, drawn, minibatch(key, arrays.train, size))


@pytest.mark.parametrize("seeds", [0, [0, 1, 2]])
def test_a_run_is_that_of_the_same_arrays(tune, arrays, mapped, seeds, monkeypatch):
    expected = tune(arrays, seeds=seeds)
    # 16 bytes an example: 7 are read together, and of the rest, fewer.
    monkeypatch.setattr("shohypernet.sources._source.EVALUATED_BYTES", 7 * 16)
    found = tune(mapped, seeds=seeds)
    np.testing.assert_array_equal(found.params, expected.params)
    np.testing.assert_array_equal(found.hyperparams, expected.hyperparams)
    for name in ("valid_loss_on_train", "valid_loss", "test_loss"):
        pair = (getattr(result.history, name) for result in (found, expected))
        np.testing.assert_allclose(*pair, rtol=1e-5)


def test_a_run_that_reads_is_resumed_and_knows_its_data(tune, mapped, arrays, tmp_path):
    whole = tune(mapped)
    tune(mapped, workdir=tmp_path, steps=3, eval_every=3)
    resumed = tune(mapped, workdir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.params, whole.params)
    other = mapped._replace(train=sources.rows(arrays.train._replace(targets=np.zeros(40))))
    with pytest.raises(ValueError, match=r"data.train: was 'source of 40 "):
        tune(other, workdir=tmp_path, resume=True, steps=9)


def test_a_sequence_of_examples_is_as_good(tune, arrays, mapped):
    pairs = list(zip(*arrays.train, strict=True))
    train = sources.examples(pairs, lambda pair: Examples(*pair))
    assert len(train) == 40
    found = tune(mapped._replace(train=train, test=None))
    np.testing.assert_array_equal(found.params, tune(arrays).params)


def test_training_and_searches_read_too(problem, arrays, mapped, key):
    options = {"steps": 5, "batch_size": 4}
    trained = (shn.train(problem, SGD, key, 0.1, d.train, **options) for d in (arrays, mapped))
    np.testing.assert_array_equal(*(each.params for each in trained))
    again = shn.retrain(problem, 0.1, mapped, optimizer=SGD, with_valid=False, **options)
    inputs, targets = arrays.test
    error = np.mean((inputs @ np.asarray(again.params) - targets) ** 2)
    np.testing.assert_allclose(again.losses.test, error, rtol=1e-5)
    random = shn.search.random_search(steps=5, population=2)
    searched = [
        shn.search.run(problem, random, d, 0.1, optimizer=SGD, budget=20, batch_size=4)
        for d in (arrays, mapped)
    ]
    np.testing.assert_allclose(*(each.measured.valid_loss for each in searched), rtol=1e-5)


def test_dtypes_are_those_of_jax():
    source = sources.rows({"x": np.arange(4.0), "n": np.arange(4)})
    assert {leaf.dtype.name for leaf in jax.tree.leaves(source.like)} == {"float32", "int32"}
    assert source.take(jnp.array([2]))["x"].dtype == jnp.float32


def test_refusals(tune, problem, arrays, mapped):
    with pytest.raises(ValueError, match="train_batch_size, such as train_batch_size=100"):
        tune(mapped, train_batch_size=None)
    with pytest.raises(ValueError, match="valid_batch_size"):
        tune(mapped, valid_batch_size=None)
    random = shn.search.random_search(steps=5)
    with pytest.raises(ValueError, match=r"search.run\(\) can't take a source of 40 .* batch_size"):
        shn.search.run(problem, random, mapped, 0.1, optimizer=SGD, budget=20)
    with pytest.raises(ValueError, match="can't join sources"):
        shn.retrain(problem, 0.1, mapped, optimizer=SGD, steps=1, batch_size=2)
    with pytest.raises(TypeError, match=r"got a generator.*sources.examples"):
        tune(arrays._replace(train=(x for x in arrays.train)))
    with pytest.raises(TypeError, match=r"can only be gone through.*loader.dataset"):
        sources.examples(iter(arrays.train))
    with pytest.raises(ValueError, match="leading axis in common"):
        sources.rows((np.zeros(3), np.zeros(4)))
    with pytest.raises(ValueError, match="one example or more"):
        sources.examples([])
