"""Runs on eight devices and in two processes, against the same run on one device.

JAX takes its devices once only, so those runs are made by this file as a program.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import walks
from jax.sharding import AxisType, Mesh, PartitionSpec

from shohypernet import HyperOptimizer, Problem, local_response, sources
from shohypernet._internal import sharding
from shohypernet.batches import Data
from shohypernet.fitting import Interrupted, fit
from shohypernet.fitting import _history as histories
from shohypernet.hypernets import Hypernet
from shohypernet.samplers import local_gaussian

# --- one run, and the ways to shard it ----------------------------------------------------------

SEEDS, SAMPLES, INPUTS, BATCH, STEPS = 8, 8, 12, 16, 8
FEATURES = 64
LARGE = 2**11  # bytes, in the programs: φ has 3 KiB, and is soon computed

MESHES = {
    "seeds": {"seeds": 8},
    "samples": {"samples": 8},
    "examples": {"examples": 8},
    "weights": {"weights": 8},
    "seeds and weights": {"seeds": 2, "weights": 4},
    "samples and examples": {"samples": 2, "examples": 4},
}
REFUSED = {
    "an unknown axis": (
        {"batch": 8},
        {},
        r"can't shard a run over mesh axes \['batch'\]; name them among",
    ),
    "too few seeds": (
        {"seeds": 4},
        {"seeds": range(6)},
        "number of seeds must be a multiple of the 4 devices of mesh axis 'seeds', got 6; 8 would",
    ),
    "a small batch": (
        {"examples": 8},
        {"train_batch_size": 12},
        "train_batch_size .* multiple of the 8 devices .* 'examples', got 12; 16 would do",
    ),
    "a whole split": (
        {"examples": 8},
        {"valid_batch_size": None},
        r"valid_batch_size \(all of data.valid when None\) must .* got 20; 24 would do",
    ),
}


def splits(read=False):
    rng = np.random.default_rng(0)
    slope = rng.normal(size=INPUTS)
    inputs = [(rng.normal(size=(n, INPUTS)) / 3.5).astype("f") for n in (40, 20, 7)]
    data = Data(*((x, (x @ slope + rng.normal(size=len(x))).astype("f")) for x in inputs))
    return Data(*map(sources.rows, data)) if read else data


def made(on_outputs=lambda outputs: None):
    """Ridge regression with a hypernet; `on_outputs` is shown the outputs in training."""

    def error(params, batch, look):
        inputs, targets = batch
        outputs = inputs @ params
        look(outputs)
        return jnp.mean((outputs - targets) ** 2)

    problem = Problem(
        init=lambda key: jnp.zeros(INPUTS),
        train_loss=lambda params, hyperparams, batch, key: (
            error(params, batch, on_outputs) + jnp.exp(hyperparams) * jnp.mean(params**2)
        ),
        valid_loss=lambda params, hyperparams, batch: error(params, batch, lambda outputs: None),
    )
    ramp = np.linspace(-1, 1, FEATURES, dtype="f")
    hypernet = Hypernet(
        init=lambda key, params, hyperparams: jax.random.normal(key, (FEATURES, INPUTS)) / 3,
        apply=lambda phi, hyperparams: jnp.tanh(hyperparams * ramp + 1) / 8 @ phi,
    )
    method = local_response(
        problem,
        hypernet,
        # Linear in gradients, unlike Adam, whose steps don't shrink with what rounding leaves.
        hypernet_optimizer=optax.sgd(0.1, momentum=0.9),
        hyper_optimizer=optax.sgd(0.1),
        sampler=local_gaussian(0.1),
        samples=SAMPLES,
    )
    return problem, method


def refused():
    """A problem and a method that nothing may be traced of."""
    problem = Problem(None, None, None)
    return problem, HyperOptimizer(None, None, None)


def run(made=made, read=False, **kwargs):
    problem, method = made()
    kwargs = {
        "steps": STEPS,
        "eval_every": 2,
        "seeds": range(SEEDS),
        "inner_steps": 2,
        "train_batch_size": BATCH,
        "valid_batch_size": 8,
        "checkpoint_every": 100,
    } | kwargs
    return fit(problem, method, splits(read), jnp.float32(0.5), **kwargs)


class OnDisk:
    """Numbers that are read row by row; `reads` has how many rows of them, each time."""

    numbers = np.arange(40, dtype=np.float32)
    shape, dtype = numbers.shape, numbers.dtype

    def __init__(self):
        self.reads = []

    def __getitem__(self, rows):
        self.reads.append(len(rows))
        return self.numbers[rows]


def walk(disk, **kwargs):
    """A run with every kind of source."""
    data = Data(
        sources.rows(disk),
        sources.stream(lambda: iter(disk.numbers.reshape(-1, 8)), evaluated=2),
        sources.generated(jax.random.normal, count=20),
    )
    sizes = {"train_batch_size": 8, "valid_batch_size": None}
    return walks.run(walks.walk(), data=data, steps=4, **sizes, **kwargs)


def mesh_of(sizes):
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes))


def arrays(result):
    """All numbers of a result but for what the clock says."""
    history = result.history._replace(seconds=None)
    timeless = result._replace(history=history, compile_seconds=None, seeds=None)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(sharding.whole(timeless))]


def assert_close(result, expected):
    # The devices' parts of a sum are added in another order. That leaves some of single precision's
    # 6e-8 each time, and the steps after it enlarge that. Other random numbers, as of another seed,
    # leave 0.4 in the weights.
    for leaf, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-5)


def programs(arguments, *, devices, cache):
    """This file as programs, one for each tuple of arguments; gives their reports."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        # Compiling is most of what they do: in haste, and what is alike once.
        "XLA_FLAGS": (
            f"--xla_force_host_platform_device_count={devices} {os.environ.get('XLA_FLAGS', '')}"
        ),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    # Of warnings JAX's own are the ones to fear, such as of buffers that were donated in vain.
    command = [sys.executable, "-W", "error::UserWarning", __file__]
    with contextlib.ExitStack() as stack:
        started = []
        for each in arguments:
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(
                [*command, *map(str, each)], env=environment, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append((process, log))
        reported = []
        for process, log in started:
            code = process.wait(timeout=900)
            log.seek(0)
            output = log.read()
            assert code == 0, output
            # Not the last line always: JAX may have something to say as it ends.
            reported += [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return reported


def load(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.fixture(scope="module")
def alone():
    return arrays(run())


# --- eight devices ------------------------------------------------------------------------------


def many(folder):
    """The program for eight devices: saves each run's numbers, and tells how it was spread."""
    reported = {"phi": {}, "outputs": {}, "refused": {}}
    for case, sizes in MESHES.items():
        seen = []

        def looking(seen=seen):
            return made(
                lambda outputs: jax.debug.inspect_array_sharding(outputs, callback=seen.append)
            )

        result = run(looking, mesh=mesh_of(sizes))
        np.savez(folder / f"{case}.npz", *arrays(result))
        (shape,) = {shard.data.shape for shard in result.state.hypernet_params.addressable_shards}
        reported["phi"][case] = shape
        reported["outputs"][case] = sorted(name for name in seen[0].spec if name)
    for case, (sizes, kwargs, _) in REFUSED.items():
        try:
            run(refused, mesh=mesh_of(sizes), **kwargs)
        except ValueError as error:
            reported["refused"][case] = str(error)
    mesh = mesh_of(MESHES["seeds and weights"])
    run(steps=4, mesh=mesh, workdir=folder / "begun on eight")
    result = run(resume=True, mesh=mesh, workdir=folder / "begun on one", seeds_at_once=3)
    np.savez(folder / "begun on one.npz", *arrays(result))
    disk = OnDisk()
    np.savez(folder / "walk.npz", *arrays(walk(disk, mesh=mesh_of(MESHES["samples and examples"]))))
    reported["reads"] = disk.reads
    return reported


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("eight")


@pytest.fixture(scope="module")
def reported(folder):
    run(steps=4, workdir=folder / "begun on one")
    (reported,) = programs([("many", folder)], devices=8, cache=folder / "cache")
    return reported


@pytest.mark.parametrize("case", MESHES)
def test_eight_devices_find_what_one_finds(case, reported, folder, alone):
    assert_close(load(folder / f"{case}.npz"), alone)


def test_eight_devices_read_what_one_reads_each_its_share(reported, folder):
    alone = OnDisk()
    assert_close(load(folder / "walk.npz"), arrays(walk(alone)))
    assert max(alone.reads) == 40  # to evaluate the split
    assert max(reported["reads"]) == 40 / MESHES["samples and examples"]["examples"]


@pytest.mark.parametrize(("case", "sizes"), MESHES.items())
def test_each_device_has_its_share_only(case, sizes, reported):
    share = SEEDS // sizes.get("seeds", 1), FEATURES // sizes.get("weights", 1), INPUTS
    assert reported["phi"][case] == list(share)
    assert reported["outputs"][case] == sorted({"samples", "examples"} & sizes.keys())


@pytest.mark.parametrize(("case", "message"), [(c, refused[-1]) for c, refused in REFUSED.items()])
def test_what_cannot_be_shared_is_refused_untraced(case, message, reported):
    with pytest.raises(ValueError, match=message):
        raise ValueError(reported["refused"][case])


def test_arrays_of_a_mebibyte_per_seed_are_sharded_and_smaller_ones_are_not():
    mesh = jax.sharding.AbstractMesh((2, 4), ("seeds", "weights"), axis_types=(AxisType.Auto,) * 2)
    shapes = {"large": (8, 512, 516), "small": (8, 512, 508), "odd": (8, 514, 513, 1)}
    like = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    with jax.sharding.use_abstract_mesh(mesh):
        placed = jax.tree.map(sharding._spec, like)
    assert placed == {
        "large": PartitionSpec("seeds", None, "weights"),
        "small": PartitionSpec("seeds"),
        "odd": PartitionSpec("seeds"),
    }


def test_sampled_hyperparams_that_cannot_be_shared_are_refused():
    mesh = jax.sharding.AbstractMesh((3,), ("samples",), axis_types=(AxisType.Auto,))
    message = (
        "3 devices of mesh axis 'samples' can't share 8 samples evenly; choose a multiple of 3"
    )
    with jax.sharding.use_abstract_mesh(mesh), pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda sampled: sharding.constrain(sampled, "samples"), np.zeros(8))


def test_a_run_continues_with_fewer_devices_or_more(reported, folder, alone):
    assert_close(load(folder / "begun on one.npz"), alone)
    assert_close(arrays(run(resume=True, workdir=folder / "begun on eight")), alone)


# --- two processes ------------------------------------------------------------------------------


def pair(folder, port, index):
    """The program for each of two processes, with two devices each: φ is spread over both."""
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    mesh = Mesh(np.reshape(jax.devices(), (2, 2)), ("weights", "seeds"))

    def saved(name, **kwargs):
        result = run(mesh=mesh, workdir=folder / name, **kwargs)
        with sharding.over(mesh):
            np.savez(folder / f"{name} {index}.npz", *arrays(result))

    def raised(*arguments, **kwargs):
        try:
            saved(*arguments, **kwargs)
        except (Exception, Interrupted) as error:
            return type(error).__name__, str(error)

    saved("whole", read=True)
    reported = {
        "exists": raised("whole"),
        "another": raised("whole", resume=True, config={"rate": 1}),
    }
    after = histories.after

    def signalling(*arguments, **options):
        record = after(*arguments, **options)
        if record.step == 4 and index == 1:
            signal.raise_signal(signal.SIGTERM)
        return record

    histories.after = signalling
    reported["stopped"] = raised("stopped")
    histories.after = after
    reported["kept"] = [path.name for path in (folder / "stopped" / "checkpoints").iterdir()]
    saved("stopped", resume=True)
    return reported


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder, and the report of each of two processes."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    each = [("pair", folder, port, index) for index in range(2)]
    return folder, programs(each, devices=2, cache=folder / "cache")


@pytest.mark.parametrize("index", range(2))
def test_each_of_two_processes_has_the_results_of_one(index, both, alone):
    assert_close(load(both[0] / f"whole {index}.npz"), alone)


def test_the_first_of_two_processes_keeps_the_log(both):
    lines = (both[0] / "whole" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("index", range(2))
def test_a_folder_that_wont_do_stops_both_processes(index, both):
    reported = both[1][index]
    kind, message = reported["exists"]
    assert kind == "FileExistsError"
    assert "already holds a run" in message
    kind, message = reported["another"]
    assert kind == "ValueError"
    assert "config.rate: was 'absent', is 1" in message


@pytest.mark.parametrize("index", range(2))
def test_a_signal_to_the_second_process_stops_and_saves_both(index, both):
    folder, reported = both
    kind, message = reported[index]["stopped"]
    assert kind == "Interrupted"
    assert f"stopped at step 4 of 8 and saved in {folder / 'stopped'}" in message
    assert reported[index]["kept"] == ["4"]
    resumed, whole = (load(folder / f"{name} {index}.npz") for name in ("stopped", "whole"))
    for leaf, other in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(leaf, other)


if __name__ == "__main__":
    kind, folder, *numbers = sys.argv[1:]
    sharding.LARGE = LARGE
    print(json.dumps({"many": many, "pair": pair}[kind](pathlib.Path(folder), *map(int, numbers))))
