"""What is said to be counted is what is counted, and the picture is drawn."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import growth_contenders


@pytest.fixture
def growth():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    from benchmarks import growth

    return growth


@pytest.mark.parametrize("count", [*(10**power for power in range(1, 8)), 7])
def test_a_layer_has_as_many_weights_and_decays_as_asked(count):
    inputs, outputs = growth_contenders.sides(count)
    assert inputs >= 1
    taken = growth_contenders.subject(inputs, outputs)
    assert taken.number == count
    weights = jax.eval_shape(taken.problem.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == count


def test_kronecker_looks_in_every_step_or_in_none():
    taken = growth_contenders.subject(3, 2)
    contender = growth_contenders.centered(taken.problem)
    key = jax.random.key(0)
    hyperparams = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), taken.hyperparams)
    start, data = contender.init(key, hyperparams), growth_contenders.random_data(taken)
    step = jax.jit(contender.step)
    assert contender.looking is not None
    for state, looks in ((start, 0), (contender.looking(start), 2)):
        for _ in range(2):
            state = step(key, state, data)
        assert state.jacobian_params.looks == looks


def test_rows_count_what_was_asked_and_are_drawn(growth, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "MNIST", (3, 2))
    monkeypatch.setattr(growth, "MOST_STEPS_A_CALL", 2)
    monkeypatch.setattr(growth, "TURN_SECONDS", 0.001)
    left = growth.by_hyperparameters([10], rounds=1)
    right = growth.by_samples([3], rounds=1)
    assert [(row["hyperparameters"], row["method"]) for row in left] == [
        (10, growth_contenders.PLAIN),
        (10, growth_contenders.FACTORISED),
        (10, growth_contenders.ELEMENTWISE),
        (10, growth_contenders.KRONECKER),
    ]
    assert [row["samples"] for row in right] == [3, 3]
    # λ, w and Adam's two averages, in float32.
    assert all(row["bytes"] >= 4 * 4 * row["hyperparameters"] for row in left)
    growth.growth_picture.draw(left, right, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 0


def test_kronecker_is_left_out_of_the_largest_with_the_reason(growth, monkeypatch, capsys):
    def measure(taken, methods, rounds):
        return {name: {"seconds": 1.0, "bytes": 1, "look_seconds": 0.0} for name in methods}

    monkeypatch.setattr(growth, "measure", measure)
    rows = growth.by_hyperparameters([10**6, 10**7], rounds=1)
    found = {(row["hyperparameters"], row["method"]) for row in rows}
    assert (10**6, growth_contenders.KRONECKER) in found
    assert (10**7, growth_contenders.KRONECKER) not in found
    assert "Kronecker is left out: a step would be 1.0 TFLOP" in capsys.readouterr().out


def test_what_has_no_room_is_named_and_left_out(growth, monkeypatch, capsys):
    memory = growth.psutil.virtual_memory()
    monkeypatch.setattr(growth.psutil, "virtual_memory", lambda: memory._replace(available=0))
    taken = growth_contenders.subject(3, 2)
    methods = growth_contenders.sampling(taken.problem, 1)
    assert growth.measure(taken, methods, rounds=1) == {}
    assert "factorized is left out" in capsys.readouterr().out
