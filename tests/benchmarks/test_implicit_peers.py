"""Implicit hypergradients are those of two other libraries."""

import jax
import pytest

from shohypernet.data import Data, Examples

ITERATIONS = 4  # more of them multiply the rounding, see the benchmark


@pytest.fixture
def peers():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    # Imported here, where the warning that nobody maintains it any more is ignored.
    pytest.importorskip("jaxopt")
    from benchmarks import implicit_peers

    return implicit_peers


@pytest.fixture
def data():
    def examples(key):
        key_inputs, key_classes = jax.random.split(key)
        classes = jax.random.randint(key_classes, (30,), 0, 10)
        return Examples(jax.random.uniform(key_inputs, (30, 6)), jax.nn.one_hot(classes, 10))

    return Data(*map(examples, jax.random.split(jax.random.key(0), 3)))


def jaxopt_contender(*arguments):
    from benchmarks import implicit_peers_jaxopt

    return implicit_peers_jaxopt.contender(*arguments)


def torchopt_contender(*arguments):
    pytest.importorskip("torchopt", reason="comes with the bench extra")
    from benchmarks import implicit_peers_torchopt

    return implicit_peers_torchopt.contender(*arguments)


@pytest.mark.parametrize("build", [jaxopt_contender, torchopt_contender])
@pytest.mark.parametrize("hidden", [(), (5,)])
def test_a_peer_makes_our_hypergradient(peers, data, build, hidden):
    taken = peers.subject(data, hidden, training_steps=50)
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        precise = peers.in_float64(taken)
        found = {peers.OURS: peers.ours(precise, ITERATIONS), "peer": build(precise, ITERATIONS)}
        count = sum(leaf.size for leaf in jax.tree.leaves(taken.params))
        assert found["peer"].hypergradient().shape == (count,)
        assert peers.differences(found)["peer"] < 1e-10


def test_rows_name_the_model_and_count_its_decays(peers, data):
    with jax.numpy_rank_promotion("allow"):
        rows = peers.measure(peers.subject(data, (5,), training_steps=50), rounds=1)
    assert rows[0]["contender"] == peers.OURS
    assert {(row["model"], row["hyperparameters"]) for row in rows} == {("6-5-10", 95)}
    assert all(row["difference"] <= peers.TOLERANCE for row in rows)
