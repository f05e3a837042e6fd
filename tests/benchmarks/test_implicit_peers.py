"""Implicit hypergradients are those of two other libraries."""

import types

import jax
import numpy as np
import pytest

from benchmarks.contenders.implicit import ImplicitContender
from shohypernet.batches import Data, Examples

ITERATIONS = 4  # more of them amplify rounding errors, see the benchmark
TRAINING_STEPS = 50


@pytest.fixture(scope="module")
def peers():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    # Imported here, where its warning that nobody maintains it any more is ignored.
    pytest.importorskip("jaxopt")
    from benchmarks import implicit_peers

    return implicit_peers


@pytest.fixture(scope="module")
def data():
    def examples(key):
        key_inputs, key_classes = jax.random.split(key)
        classes = jax.random.randint(key_classes, (30,), 0, 10)
        return Examples(jax.random.uniform(key_inputs, (30, 6)), jax.nn.one_hot(classes, 10))

    return Data(*map(examples, jax.random.split(jax.random.key(0), 3)))


@pytest.fixture(scope="module", params=[(), (5,)], ids=["linear", "deep"])
def subject(peers, data, request):
    return peers.subject(data, request.param, TRAINING_STEPS)


@pytest.fixture(scope="module")
def ours(peers, subject):
    with jax.enable_x64(True):
        return peers.implicit.contender(peers.in_float64(subject), ITERATIONS)


def jaxopt_contender(*arguments):
    from benchmarks.contenders import implicit_jaxopt

    return implicit_jaxopt.contender(*arguments)


def torchopt_contender(*arguments):
    pytest.importorskip("torchopt", reason="comes with the bench extra")
    from benchmarks.contenders import implicit_torchopt

    return implicit_torchopt.contender(*arguments)


@pytest.mark.parametrize("build", [jaxopt_contender, torchopt_contender])
def test_a_peer_makes_our_hypergradient(peers, subject, ours, build):
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        found = {peers.OURS: ours, "peer": build(peers.in_float64(subject), ITERATIONS)}
        count = sum(leaf.size for leaf in jax.tree.leaves(subject.params))
        assert found["peer"].hypergradient().shape == (count,)
        assert peers.differences(found)["peer"] < 1e-10


def test_rows_name_the_model_count_its_decays_and_tell_who_differs(peers, data, monkeypatch):
    # A peer that is always wrong, by as much as the hypergradient itself; the true ones are above.
    wrong = ImplicitContender(lambda: np.zeros(95), compile_seconds=None)
    peer = types.SimpleNamespace(contender=lambda subject, iterations: wrong)
    monkeypatch.setattr(peers, "_peers", lambda: {"wrong": peer})
    monkeypatch.setattr(peers.timing, "interleaved", equally_fast)
    rows = peers.measure(peers.subject(data, (5,), TRAINING_STEPS), rounds=1)
    assert {(row["model"], row["hyperparameters"]) for row in rows} == {("6-5-10", 95)}
    assert {row["contender"]: row["difference"] for row in rows} == {peers.OURS: 0, "wrong": 1}


def equally_fast(turns, rounds):
    from benchmarks._timing import Rate

    return {name: Rate(1.0, 1.0, 1.0, 1.0, rounds * [1.0]) for name in turns}, 0.0
