"""The counts of `growth` are right, and its picture is drawn from any rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.contenders import growth as growth_contenders
from shohypernet.problem import param_shapes

METHODS = (
    growth_contenders.PLAIN,
    growth_contenders.FACTORIZED,
    growth_contenders.ELEMENTWISE,
    growth_contenders.KRONECKER,
)


@pytest.fixture(scope="module")
def growth():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    from benchmarks import growth

    return growth


@pytest.fixture
def picture():
    pytest.importorskip("matplotlib")
    from benchmarks import _growth_picture

    return _growth_picture


@pytest.mark.parametrize("count", [*(10**power for power in range(1, 8)), 7])
def test_a_layer_has_as_many_weights_and_decays_as_asked(count):
    inputs, outputs = growth_contenders.sides(count)
    assert inputs >= 1
    subject = growth_contenders.subject(inputs, outputs)
    assert subject.number == count
    weights = param_shapes(subject.problem)
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == count


def test_kronecker_factors_are_updated_in_every_step_or_in_none():
    subject = growth_contenders.subject(3, 2)
    contender = growth_contenders.centered(subject.problem)
    key = jax.random.key(0)
    hyperparams = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), subject.hyperparams)
    start, data = contender.init(key, hyperparams), growth_contenders.random_data(subject)
    step = jax.jit(contender.step)
    assert contender.refreshing is not None
    for state, refreshes in ((start, 0), (contender.refreshing(start), 2)):
        for _ in range(2):
            state = step(key, state, data)
        assert state.jacobian_state.refreshes == refreshes


@pytest.fixture
def clocked(growth, monkeypatch):
    """Advances each contender once, and says how many steps/s each made."""
    rates = {growth_contenders.KRONECKER: 100.0, "centered, Kronecker, refreshing": 2.0}

    def interleaved(turns, rounds):
        for turn in turns.values():
            turn.advance(turn.steps)
        found = {name: rates.get(name, 1000.0) for name in turns}
        timing = growth.timing
        return {name: timing.Rate(r, r, r, 1.0, rounds * [r]) for name, r in found.items()}, 0.0

    monkeypatch.setattr(growth.timing, "interleaved", interleaved)


@pytest.mark.usefixtures("clocked")
def test_rows_count_what_was_asked(growth, monkeypatch):
    monkeypatch.setattr(growth, "MOST_STEPS_PER_CALL", 2)
    rows = growth.by_hyperparameters([10], rounds=1)
    assert [(row["hyperparameters"], row["method"]) for row in rows] == [
        (10, name) for name in METHODS
    ]
    # λ, w and Adam's two averages, in float32.
    assert all(row["bytes"] >= 4 * 4 * row["hyperparameters"] for row in rows)
    *others, kronecker = rows
    assert all(row["seconds"] == 1e-3 for row in others)
    # 10 ms, and the 490 ms more of an update once in 50 steps.
    assert kronecker["refresh_seconds"] == pytest.approx(0.49)
    assert kronecker["seconds"] == pytest.approx(0.01 + 0.49 / 50)


def test_rows_name_the_sampled_hyperparameters(growth, monkeypatch):
    def measure(subject, methods, rounds):
        return {name: {"seconds": 1.0, "bytes": subject.number} for name in methods}

    monkeypatch.setattr(growth, "measure", measure)
    rows = growth.by_samples([1, 3], rounds=1)
    assert [row["samples"] for row in rows] == [1, 1, 3, 3]
    assert {row["method"] for row in rows} == {
        growth_contenders.FACTORIZED,
        growth_contenders.ELEMENTWISE,
    }
    assert {row["bytes"] for row in rows} == {7_850}


def rows_of(over, numbers, seconds):
    return [
        {over: number, "method": name, "seconds": seconds * number, "bytes": 1e6 * number}
        for number in numbers
        for name in METHODS
    ]


def test_a_picture_of_a_single_number_is_drawn_whatever_the_time_was(picture, tmp_path):
    # 10 x / x is more than 10 in floating point for some x, which once left an axis of zero width.
    times = np.linspace(1e-3, 2e-3, 1_000)
    odd = float(next(x for x in times if 10 * x / x > 10))
    left, right = rows_of("hyperparameters", [10], odd / 10), rows_of("samples", [3], odd)
    picture.draw(left, right, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 0


def test_a_guide_has_slope_1_below_all_points(picture):
    points = [(1, 5.0), (10, 4.0), (100, 20.0), (1000, 100.0), (1000, 300.0)]
    (start, end), (low, high) = picture.guide(points)
    assert (end, high) == (1000, 50.0)
    assert (start, low) == (pytest.approx(40.0), pytest.approx(2.0))
    (start, end), (low, high) = picture.guide([(10, odd / 3) for odd in (1.0, 2.0)])
    assert (start, low) == (end, high)


def test_kronecker_is_left_out_of_the_largest_with_the_reason(growth, monkeypatch, capsys):
    def measure(subject, methods, rounds):
        return {name: {"seconds": 1.0, "bytes": 1, "refresh_seconds": 0.0} for name in methods}

    monkeypatch.setattr(growth, "measure", measure)
    rows = growth.by_hyperparameters([10**6, 10**7], rounds=1)
    found = {(row["hyperparameters"], row["method"]) for row in rows}
    assert (10**6, growth_contenders.KRONECKER) in found
    assert (10**7, growth_contenders.KRONECKER) not in found
    assert "Kronecker is left out: a step would be 1.0 TFLOP" in capsys.readouterr().out


def test_a_method_without_room_is_named_and_left_out(growth, monkeypatch, capsys):
    memory = growth.psutil.virtual_memory()
    monkeypatch.setattr(growth.psutil, "virtual_memory", lambda: memory._replace(available=0))
    subject = growth_contenders.subject(3, 2)
    methods = growth_contenders.sampling(subject.problem, 1)
    methods = {"elementwise": methods[growth_contenders.ELEMENTWISE]}
    assert growth.measure(subject, methods, rounds=1) == {}
    assert "elementwise is left out" in capsys.readouterr().out
