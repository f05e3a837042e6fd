"""The contenders make one calculation, and its cost is counted right."""

import time

import jax
import numpy as np
import pytest

from benchmarks import machine, roofline, setting, small_problem_jax, small_problem_library
from benchmarks.machine import Peaks
from shohypernet.data import Data, Examples

STEPS = 5


@pytest.fixture(scope="module")
def subject():
    def examples(key, count):
        key_inputs, key_classes = jax.random.split(key)
        inputs = jax.random.uniform(key_inputs, (count, 12))
        classes = jax.random.randint(key_classes, (count,), 0, 10)
        return Examples(inputs, jax.nn.one_hot(classes, 10))

    keys = jax.random.split(jax.random.key(0), 3)
    return small_problem_library.subject(Data(*map(examples, keys, (10, 30, 20))))


@pytest.fixture(scope="module")
def library_run(subject):
    return (
        small_problem_library.start_arrays(subject, seed=3),
        small_problem_library.drawn_noise(subject, STEPS, seed=3),
        small_problem_library.replay(subject, STEPS, seed=3),
    )


@pytest.fixture
def timing():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    from benchmarks import timing

    return timing


def numpy_contender(arrays):
    pytest.importorskip("autograd", reason="comes with the bench extra")
    from benchmarks import small_problem_numpy

    return small_problem_numpy.contender(arrays)


def torch_contender(arrays):
    pytest.importorskip("torch", reason="comes with the bench extra")
    from benchmarks import small_problem_torch

    return small_problem_torch.contender(arrays)


@pytest.mark.parametrize(
    "build",
    [
        numpy_contender,
        torch_contender,
        small_problem_jax.in_a_loop,
        small_problem_jax.in_a_scan,
        small_problem_jax.in_a_scan_under_vmap,
    ],
)
def test_a_contender_has_the_losses_of_the_library(build, library_run):
    arrays, noise, expected = library_run
    with jax.numpy_rank_promotion("allow"):
        losses = build(arrays).replay(noise)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)


def test_drawn_noise_is_standard_normal_and_changes_with_step_and_seed(subject):
    noise = small_problem_library.drawn_noise(subject, 200, seed=0)
    assert noise.shape == (200, setting.SAMPLES)
    assert len(np.unique(noise)) == noise.size
    # Five standard errors of 2,000 draws.
    assert abs(noise.mean()) < 0.11
    assert abs(noise.std() - 1) < 0.08
    assert not np.allclose(noise[:STEPS], small_problem_library.drawn_noise(subject, STEPS, seed=1))


def test_chunk_advances_as_many_steps_as_asked(subject):
    chunk = small_problem_library.chunk(subject, seeds=2, steps=3)
    chunk.advance(3)
    with pytest.raises(ValueError, match="compiled for 3 steps"):
        chunk.advance(4)
    assert chunk.bytes_held > 0


def test_bound_by_hand():
    peaks = Peaks(product=1e9, read=1e9, read_again=2e9, copy=1e9)
    one = roofline.bound(peaks, pixels=784, classes=10, seeds=1)
    images, outputs = 10_010, 10_000 * 10 + 10 * 10 * 10
    assert one.bytes == 4 * images * (2 * 784 + 10)
    assert one.flops == 2 * 2 * 784 * outputs
    assert one.limit == "flops"
    assert one.steps_per_second == pytest.approx(1e9 / one.flops)
    four = roofline.bound(peaks, pixels=784, classes=10, seeds=4)
    assert four.bytes == one.bytes
    assert four.flops == 4 * one.flops
    crossing = roofline.seeds_where_flops_take_over(peaks, pixels=784, classes=10)
    assert crossing == pytest.approx(one.bytes / 2e9 / (one.flops / 1e9))


def test_peaks_are_the_best_of_each_kind():
    gauges = {
        "small": machine.Gauge("product", lambda times: None, 10.0),
        "large": machine.Gauge("product", lambda times: None, 100.0),
        "sum": machine.Gauge("read", lambda times: None, 1.0),
    }
    found = machine.peaks(gauges, {"small": 3.0, "large": 0.2, "sum": 5.0})
    assert found == Peaks(product=30.0, read=5.0, read_again=0.0, copy=0.0)


def test_by_turns_takes_turns_and_counts_steps(timing):
    seen = []

    def advance(name):
        def steps(count):
            seen.append((name, count))
            time.sleep(0.01)

        return steps

    rates, others = timing.by_turns(
        {"a": timing.Turn(advance("a"), 2, 0.001), "b": timing.Turn(advance("b"), 3, 0.001)},
        rounds=2,
    )
    assert seen == [("a", 2), ("b", 3)] * 3
    assert rates["a"].low <= rates["a"].median <= rates["a"].high <= 200
    assert len(rates["b"].samples) == 2
    assert others >= 0


def test_median_ratio_is_taken_round_by_round(timing):
    def rate(*samples):
        return timing.Rate(0.0, 0.0, 0.0, 0.0, list(samples))

    assert timing.median_ratio(rate(2.0, 20.0, 9.0), rate(1.0, 10.0, 3.0)) == 2.0
