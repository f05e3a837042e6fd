"""A run's folder: what it holds, whom it lets in, and what is left of it after damage."""

import contextlib
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from shohypernet.fitting import _run_directory as run_directory
from shohypernet.fitting._run_directory import RunDirectory, read_identity

IDENTITY = {"seeds": [0, 1], "config": {"rate": 0.1}}


def tree(number):
    """Arrays of every kind that a checkpoint may have to hold."""
    return (
        {"float32": jnp.full((2, 3), number, jnp.float32), "none": None, "empty": ()},
        np.array([number / 3, np.pi]),  # in double precision
        np.array(2**40 + number),
        jnp.full(3, number, jnp.bfloat16),
    )


def filled(path, *steps):
    """A closed folder with checkpoints of these steps."""
    directory = RunDirectory(path, IDENTITY, resume=False)
    directory.begin([{"step": 0}])
    for step in steps:
        directory.log({"step": step})
        directory.save(step, tree(step))
    directory.close()
    return path


@pytest.fixture
def opened():
    """Opens folders, and closes them in the end."""
    with contextlib.ExitStack() as stack:

        def open_one(path, identity=IDENTITY, *, resume=False):
            directory = RunDirectory(path, identity, resume=resume)
            stack.callback(directory.close)
            return directory

        yield open_one


@pytest.fixture
def resumed(opened):
    return functools.partial(opened, resume=True)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(path):
    return sorted(below.name for below in (path / "checkpoints").iterdir())


def test_what_was_saved_comes_back_bit_for_bit(resumed, tmp_path):
    directory = resumed(filled(tmp_path, 3, 7))
    assert directory.latest_step == 7
    back, expected = directory.restore(tree(0)), tree(7)
    assert back[0]["none"] is None
    assert back[0]["empty"] == ()
    for leaf, wanted, dtype in [
        (back[0]["float32"], expected[0]["float32"], np.float32),
        (back[1], expected[1], np.float64),
        (back[2], expected[2], np.int64),
        (back[3], expected[3], ml_dtypes.bfloat16),
    ]:
        assert leaf.dtype == dtype
        np.testing.assert_array_equal(leaf, wanted)


def test_nothing_of_the_run_is_written_before_it_begins(opened, tmp_path):
    path = tmp_path / "some" / "where"
    directory = opened(path, IDENTITY, resume=False)
    assert [below.name for below in path.iterdir()] == [".lock"]
    assert directory.latest_step is None
    directory.begin([{"step": 0}])
    directory.log({"step": 5, "loss": [0.5, 1e-3]})
    assert read_identity(path).items() >= IDENTITY.items()
    lines = (path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 0}, {"step": 5, "loss": [0.5, 1e-3]}]


def test_only_the_newest_checkpoints_are_kept(resumed, tmp_path):
    assert names(filled(tmp_path, 8, 9, 10, 11, 100)) == ["10", "100", "11"]
    directory = resumed(tmp_path)
    assert directory.latest_step == 100
    np.testing.assert_array_equal(directory.restore(tree(0))[3], tree(100)[3])


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "checkpoints"])
def test_a_folder_with_any_part_of_a_run_is_not_written_to(opened, name, tmp_path):
    filled(tmp_path / "whole", 1)
    shutil.copytree(tmp_path / "whole" / "checkpoints", tmp_path / "part" / "checkpoints")
    (tmp_path / "part" / ".lock").touch()
    if name != "checkpoints":
        shutil.rmtree(tmp_path / "part" / "checkpoints")
        shutil.copy(tmp_path / "whole" / name, tmp_path / "part")
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match="already holds a run"):
        opened(tmp_path / "part", IDENTITY, resume=False)
    assert files(tmp_path) == before


def test_a_folder_with_other_files_will_do(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "picture.png").write_bytes(b"")
    assert filled(tmp_path, 1) == tmp_path
    assert (tmp_path / "config.json").read_text() == "{}"


def test_there_must_be_a_run_to_resume(resumed, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run to resume"):
        resumed(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    for damaged in (b'{"seeds": [0', b"\xff", b"[]"):
        (tmp_path / "run.json").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run.json is damaged"):
            resumed(tmp_path)


def test_every_difference_is_named_and_absent_is_not_none(resumed, tmp_path):
    filled(tmp_path)
    other = {"seeds": [0, 2], "config": {"rate": 0.1, "new": None}, "more": {"a": {"b": 1}}}
    with pytest.raises(ValueError, match="holds another run") as refused:
        resumed(tmp_path, other)
    assert str(refused.value).splitlines()[1:-1] == [
        "  config.new: was 'absent', is None",
        "  more.a.b: was 'absent', is 1",
        "  seeds: was [0, 1], is [0, 2]",
    ]
    # A tuple and a NumPy number are what JSON makes of them.
    same = {"seeds": (0, np.int64(1)), "config": {"rate": 0.1}}
    resumed(tmp_path, same)


def test_a_run_of_other_versions_is_refused_and_they_are_named(resumed, tmp_path, monkeypatch):
    filled(tmp_path, 1)
    before = files(tmp_path)
    installed = metadata.version

    def version(name):
        if name == "shohypernet":
            raise metadata.PackageNotFoundError(name)
        return "99.0" if name == "jax" else installed(name)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "FORMAT", 2)
        patch.setattr(metadata, "version", version)
        with pytest.raises(ValueError, match="can't be resumed") as refused:
            resumed(tmp_path)
    assert str(refused.value).splitlines()[1:-1] == [
        "  format: was 1, is 2",
        f"  versions.jax: was '{installed('jax')}', is '99.0'",
        f"  versions.shohypernet: was '{installed('shohypernet')}', is None",
    ]
    assert files(tmp_path) == before
    assert resumed(tmp_path).latest_step == 1


@pytest.fixture
def unprivileged():
    """A folder that only root may write to, and a process that isn't root's for the while."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        if root := os.geteuid() == 0:
            os.seteuid(65534)
        yield pathlib.Path(folder)
        if root:
            os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have other permissions there")
@pytest.mark.parametrize("below", [".", "run"])
def test_a_folder_that_is_read_only_is_refused(opened, below, unprivileged):
    with pytest.raises(PermissionError, match=r"must be writable, but .* choose another"):
        opened(unprivileged / below)
    assert not list(unprivileged.iterdir())


def test_a_file_is_no_folder(opened, tmp_path):
    (tmp_path / "file").write_text("someone's")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match=r"must be writable, but .* choose another"):
            opened(path)


# --- one process at a time ----------------------------------------------------------------------

HOLD = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks there")
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_is_refused_while_another_process_works_there(opened, resume, tmp_path):
    if resume:
        filled(tmp_path, 1)
    before = files(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as at_work:
        assert at_work.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="another process runs in"):
            opened(tmp_path, IDENTITY, resume=resume)
        # However it ends, its lock ends with it.
        at_work.kill()
    opened(tmp_path, IDENTITY, resume=resume).close()
    assert files(tmp_path) == before | {tmp_path / ".lock": b""}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks there")
def test_it_is_refused_to_this_process_too_until_closed(opened, tmp_path):
    directory = opened(tmp_path, IDENTITY, resume=False)
    with pytest.raises(BlockingIOError):
        opened(tmp_path, IDENTITY, resume=False)
    directory.close()
    opened(tmp_path, IDENTITY, resume=False)


def test_one_that_is_refused_holds_no_lock(opened, resumed, tmp_path):
    filled(tmp_path, 1)
    with pytest.raises(FileExistsError) as refused:
        opened(tmp_path, IDENTITY, resume=False)
    assert resumed(tmp_path).latest_step == 1
    del refused


def test_systems_and_file_systems_without_locks_do_without(resumed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "fcntl", None)
        assert resumed(filled(tmp_path, 1)).latest_step == 1

    def flock(file, how):
        raise OSError("no locks here")

    monkeypatch.setattr(run_directory.fcntl, "flock", flock)
    assert resumed(tmp_path).latest_step == 1


# --- damage -------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {"flipped": flip, "truncated": truncate, "gone": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_of_a_checkpoint_is_found(resumed, damage, tmp_path):
    pristine = filled(tmp_path / "pristine", 10, 20)
    damaged = [path.relative_to(pristine) for path in files(pristine / "checkpoints" / "20")]
    assert len(damaged) > 5
    for number, name in enumerate(damaged):
        path = tmp_path / str(number)
        shutil.copytree(pristine, path)
        DAMAGE[damage](path / name)
        before = list(files(path / "checkpoints" / "20").values())
        with pytest.warns(RuntimeWarning, match="step 20 is damaged .* resumes from step 10"):
            directory = resumed(path)
        assert directory.latest_step == 10
        kept, aside = names(path)
        assert kept == "10"
        assert aside.startswith("20.damaged")
        assert list(files(path / "checkpoints" / aside).values()) == before


def test_a_checkpoint_with_more_than_was_saved_is_damaged(resumed, tmp_path):
    filled(tmp_path, 10, 20)
    (tmp_path / "checkpoints" / "20" / "tree" / "d" / "more").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="step 20 is damaged"):
        assert resumed(tmp_path).latest_step == 10


def test_the_run_saves_again_where_a_checkpoint_was_damaged(resumed, tmp_path):
    filled(tmp_path, 10, 20, 30)
    for step in (20, 30):
        (tmp_path / "checkpoints" / str(step) / "sha256").unlink()
    with pytest.warns(RuntimeWarning) as told:
        directory = resumed(tmp_path)
    assert [str(warning.message)[:28] for warning in told] == [
        "the checkpoint of step 30 is",
        "the checkpoint of step 20 is",
    ]
    directory.save(20, tree(21))
    assert directory.latest_step == 20
    np.testing.assert_array_equal(directory.restore(tree(0))[3], tree(21)[3])


def test_when_every_checkpoint_is_damaged_nothing_is_touched(resumed, tmp_path):
    filled(tmp_path, 10, 20)
    for step in (10, 20):
        shutil.rmtree(tmp_path / "checkpoints" / str(step) / "tree")
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"every checkpoint .* is damaged: \[20, 10\]"):
        resumed(tmp_path)
    assert files(tmp_path) == before


def test_drafts_and_foreign_files_are_no_checkpoints(resumed, tmp_path):
    filled(tmp_path, 10)
    shutil.copytree(tmp_path / "checkpoints" / "10", tmp_path / "checkpoints" / "draft")
    shutil.copytree(tmp_path / "checkpoints" / "10", tmp_path / "checkpoints" / "20.damaged-1")
    (tmp_path / "checkpoints" / "notes.txt").write_text("")
    directory = resumed(tmp_path)
    assert directory.latest_step == 10
    directory.save(11, tree(11))
    assert names(tmp_path) == ["10", "11", "20.damaged-1", "notes.txt"]


def test_no_saved_checkpoint_is_written_over(resumed, tmp_path):
    filled(tmp_path, 10)
    before = files(tmp_path / "checkpoints" / "10")
    with pytest.raises(OSError, match="not empty"):
        resumed(tmp_path).save(10, tree(11))
    assert files(tmp_path / "checkpoints" / "10") == before


def test_a_log_is_never_left_half_rewritten(resumed, tmp_path, monkeypatch):
    directory, log = resumed(filled(tmp_path, 10)), tmp_path / "metrics.jsonl"
    before = log.read_text()

    def records():
        yield {"step": 0}
        raise MemoryError

    with pytest.raises(MemoryError):
        directory.begin(records())
    assert log.read_text() == before

    def write_text(path, text):
        with path.open("w") as file:
            file.write(text[:5])
        raise OSError("the disk is full")

    monkeypatch.setattr(pathlib.Path, "write_text", write_text)
    with pytest.raises(OSError, match="the disk is full"):
        directory.begin([{"step": 0}])
    assert log.read_text() == before
