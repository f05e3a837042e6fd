"""The contenders make one calculation, and its cost is counted right."""

import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _machine as machine
from benchmarks import _problems as problems
from benchmarks import _roofline as roofline
from benchmarks._machine import Peaks
from benchmarks.contenders import own
from benchmarks.contenders import plain_jax as jax_contender
from shohypernet.batches import Data, Examples

STEPS = 5
# "large" differs from "deeper" in nothing but its layers, of which "small" has as few.
SETTINGS = {
    "small": problems.SETTINGS["small"]._replace(train_images=10, valid_images=30),
    "deeper": problems.SETTINGS["deeper"]._replace(
        train_images=20, valid_images=30, batch=10, hidden=(6, 5)
    ),
}


@pytest.fixture(scope="module", params=SETTINGS.values(), ids=list(SETTINGS))
def setting(request):
    return request.param


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)

    def examples(count):
        targets = np.eye(10, dtype=np.float32)[random.integers(10, size=count)]
        inputs = random.random((count, problems.PIXELS), np.float32)
        return Examples(jnp.asarray(inputs), jnp.asarray(targets))

    return lambda setting: Data(
        examples(setting.train_images), examples(setting.valid_images), examples(20)
    )


@pytest.fixture(scope="module")
def library_run(setting, data):
    made = data(setting)
    draws = own.draws(setting, STEPS, seed=3)
    start = own.start(setting, made, seed=3)
    return start, draws, own.replay(setting, made, draws, seed=3)


@pytest.fixture
def timing():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    from benchmarks import _timing as timing

    return timing


def numpy_contender(start):
    pytest.importorskip("autograd", reason="comes with the bench extra")
    from benchmarks.contenders import numpy_autograd

    return numpy_autograd.contender(start)


def torch_contender(start):
    pytest.importorskip("torch", reason="comes with the bench extra")
    from benchmarks.contenders import pytorch

    return pytorch.eager(start)


def plain_jax(start):
    return jax_contender.contender(start, steps_per_call=2)


@pytest.mark.parametrize("build", [numpy_contender, torch_contender, plain_jax])
def test_a_contender_has_the_losses_of_the_library(build, library_run):
    start, draws, expected = library_run
    with jax.numpy_rank_promotion("allow"):
        losses = build(start).replay(draws)
    assert np.all(np.diff(expected) != 0)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [numpy_contender, torch_contender, plain_jax])
def test_a_contender_advances_with_draws_of_its_own(build, library_run):
    contender = build(library_run[0])
    with jax.numpy_rank_promotion("allow"):
        contender.advance(contender.steps_per_call)


def test_drawn_noise_is_standard_normal_and_changes_with_step_and_seed():
    setting = SETTINGS["small"]
    (noise,) = own.draws(setting, 200, seed=0).noise
    assert noise.shape == (200, setting.samples, 1)
    assert len(np.unique(noise)) == noise.size
    # Five standard errors of 2,000 draws.
    assert abs(noise.mean()) < 0.11
    assert abs(noise.std() - 1) < 0.08
    assert not np.allclose(noise[:STEPS], own.draws(setting, STEPS, seed=1).noise[0])


@pytest.mark.parametrize("batch", [None, 10], ids=["all images", "minibatches"])
def test_chunk_advances_as_many_steps_as_asked(data, batch):
    setting = SETTINGS["small"]._replace(batch=batch)
    chunk = own.chunk(setting, data(setting), seeds=2, steps=3)
    chunk.advance(3)
    with pytest.raises(ValueError, match="compiled for 3 steps"):
        chunk.advance(4)
    assert chunk.bytes_held > 0


def test_sizes_of_the_paper_s_problems():
    sizes = {
        name: (one.weights, one.hyperparams, one.hypernet_params)
        for name, one in problems.SETTINGS.items()
    }
    large = 7_850, 7_850, 7_850 * 10 + 10 + 7_850 * 11
    assert sizes == {
        "small": (7_850, 1, 2 * 7_850),
        "large": large,
        "large_100": large,
        "deeper": (89_610, 89_610, 89_610 * 10 + 10 + 89_610 * 11),
    }


def test_work_by_hand_where_seeds_share_all_images():
    one = roofline.work(problems.SETTINGS["small"], seeds=1)
    assert one.image_bytes == 4 * 10_010 * (2 * 784 + 10)
    # φ read for the weights, updated by SGD (read and written), and read twice for λ̂.
    assert one.state_bytes == 4 * 5 * 15_700
    network = 2 * 784 * 10 * (10_000 + 10 * 10)
    hypernet = 7_850 * (2 * 10 + 2)
    assert one.flops == 2 * (network + hypernet)
    four = roofline.work(problems.SETTINGS["small"], seeds=4)
    assert four == (one.image_bytes, 4 * one.state_bytes, 4 * one.flops)


def test_work_by_hand_of_a_network_that_draws_minibatches():
    one = roofline.work(problems.SETTINGS["deeper"], seeds=1)
    assert one.image_bytes == 4 * (100 + 100) * (2 * 784 + 10)
    phi = 89_610 * 21 + 10
    assert one.state_bytes == 4 * 9 * phi
    network = (3 * (78_400 + 10_000 + 1_000) - 78_400) * (2 * 100 + 100)
    out = 10 * 89_610 * (3 * 2 + 2)  # U: forward, for itself and for its inputs; twice for λ̂
    into = 10 * 89_610 * (2 * 2 + 2)  # V: forward and for itself; forward and backward for λ̂
    assert one.flops == 2 * (network + out + into)
    assert roofline.work(problems.SETTINGS["deeper"], seeds=4) == tuple(4 * x for x in one)


def test_the_slower_of_memory_and_flops_is_the_bound():
    work = roofline.Work(image_bytes=8.0, state_bytes=6.0, flops=10.0)
    moving = roofline.bound(work, product=10.0, image_bandwidth=4.0, state_bandwidth=2.0)
    assert (moving.seconds_moving, moving.seconds_computing) == (5.0, 1.0)
    assert (moving.limit, moving.steps_per_second) == ("memory", 0.2)
    computing = roofline.bound(work, product=1.0, image_bandwidth=4.0, state_bandwidth=2.0)
    assert (computing.limit, computing.steps_per_second) == ("flops", 0.1)


def test_peaks_are_the_best_of_each_kind():
    gauges = {
        "small": machine.Gauge("product", lambda times: None, 10.0),
        "large": machine.Gauge("product", lambda times: None, 100.0),
        "sum": machine.Gauge("read", lambda times: None, 1.0),
    }
    found = machine.peaks(gauges, {"small": 3.0, "large": 0.2, "sum": 5.0})
    assert found == Peaks(product=30.0, read=5.0, read_again=0.0, copy=0.0)


class CpuTimes(NamedTuple):
    user: float
    idle: float


class Clock:
    """Time that passes only when a contender works or sleeps."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    process_time = perf_counter

    def sleep(self, seconds):
        self.now += seconds


def test_contenders_take_turns_and_their_steps_are_counted(timing, monkeypatch):
    clock, seen = Clock(), []
    monkeypatch.setattr(timing, "time", clock)
    # Another process is as busy as this one.
    times = types.SimpleNamespace(cpu_times=lambda: CpuTimes(2 * clock.now, 5 * clock.now))
    monkeypatch.setattr(timing, "psutil", times)

    def working(name, seconds):
        def steps(count):
            seen.append((name, count))
            clock.sleep(seconds)

        return steps

    rates, others = timing.interleaved(
        {
            "a": timing.Turn(working("a", 0.25), steps=2, seconds=0.5),
            "b": timing.Turn(working("b", 0.5), steps=3, seconds=0.5),
        },
        rounds=2,
    )
    assert seen == [("a", 2), ("b", 3)] + 2 * [("a", 2), ("a", 2), ("b", 3)]
    assert rates["a"].samples == pytest.approx([8.0, 8.0])
    assert rates["a"].median == pytest.approx(8.0)
    assert rates["b"].cpu_milliseconds == pytest.approx(500 / 3)
    assert others == pytest.approx(1.0)


def test_median_ratio_is_taken_round_by_round(timing):
    def rate(*samples):
        return timing.Rate(0.0, 0.0, 0.0, 0.0, list(samples))

    assert timing.median_ratio(rate(2.0, 20.0, 9.0), rate(1.0, 10.0, 3.0)) == 2.0
