"""Runs that are asked to stop, or killed, in this process and in others."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import orbax.checkpoint
import pytest
from walks import assert_identical, longer, run, steps_logged

from shohypernet.fitting import Interrupted
from shohypernet.fitting import _history as histories
from shohypernet.fitting._run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard")


def signal_at(monkeypatch, step, *numbers):
    """Sends this process signals as the driver makes the record of a step."""
    after = histories.after

    def signalling(last, *arguments, **options):
        record = after(last, *arguments, **options)
        if record.step == step:
            for number in numbers:
                signal.raise_signal(number)
        return record

    monkeypatch.setattr(histories, "after", signalling)


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGINT, 2), (signal.SIGTERM, 6), (signal.SIGINT, 12), (signal.SIGTERM, 12)],
)
def test_a_run_that_is_asked_to_stop_saves_first(
    number, step, uninterrupted, tmp_path, monkeypatch, capfd
):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        signal_at(patch, step, number)
        with pytest.raises(
            Interrupted, match=rf"stopped at step {step} of 12.*resume=True"
        ) as stop:
            run(workdir=tmp_path, checkpoint_every=100)
    assert stop.value.signal_number == number
    assert str(tmp_path) in str(stop.value)
    assert "once more stops at once" in capfd.readouterr().err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(step)]
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)


def test_a_signal_during_the_last_checkpoint_is_not_lost(uninterrupted, tmp_path, monkeypatch):
    save = RunDirectory.save

    def signalling(directory, step, tree):
        signal.raise_signal(signal.SIGTERM)
        save(directory, step, tree)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save", signalling)
        with pytest.raises(Interrupted, match="step 12 of 12"):
            run(workdir=tmp_path, checkpoint_every=100)
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)


def test_a_second_ctrl_c_stops_at_once(uninterrupted, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signal_at(patch, 6, signal.SIGINT, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as stop:
            run(workdir=tmp_path)
    assert stop.type is KeyboardInterrupt
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    assert_identical(run(workdir=tmp_path, resume=True), uninterrupted)


def test_without_a_workdir_ctrl_c_is_a_plain_keyboard_interrupt(monkeypatch):
    signal_at(monkeypatch, 6, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stop:
        run()
    assert stop.type is KeyboardInterrupt


# --- other processes ----------------------------------------------------------------------------

# Of a file in the folder of a run, at which a program is killed. Each next one starts where the one
# before was killed, and gets further.
FILE_EVENTS = 1, 2, 3, 5, 8, 13, 21, 34, 55, 90, 150
EVERY_OTHER_STEP = list(range(0, 121, 2))


class Launcher:
    """This file as a program, which makes a child for each run that it is told.

    They are forked after JAX was imported, which takes most of a program's time, and before it was
    used, for that starts threads: of several a child would lack what the others hold.
    """

    def __init__(self, cache):
        settings = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, workdir, *, hold=None, die=None):
        """The process of a run, new or resumed, which holds at a step or dies by itself."""
        return self.ask("start", str(workdir), hold, die)

    def started(self, workdir, *, hold):
        """Likewise, once it has logged the step."""
        pid, log = self.start(workdir, hold=hold), workdir / "metrics.jsonl"
        while not (log.exists() and f'{{"step": {hold}, ' in log.read_text()):
            assert not self.ask("ended")
            time.sleep(0.01)
        return pid

    def wait(self):
        """The status of the process, as `os.waitpid` gives it, and its standard error."""
        return self.ask("wait")


@pytest.fixture(scope="module")
def launcher(cache):
    if not hasattr(os, "fork"):
        pytest.skip("a new program for each run takes minutes")
    launcher = Launcher(cache)
    yield launcher
    launcher.process.kill()
    launcher.process.communicate()


@pytest.fixture(scope="module")
def longer_result(compiled_once, programs_on_disk):
    return longer(None)


def test_a_program_that_is_asked_to_stop_saves_and_says_how_to_continue(
    launcher, longer_result, tmp_path
):
    for number, step in ((signal.SIGINT, 6), (signal.SIGTERM, 10)):
        os.kill(launcher.started(tmp_path, hold=step), number)
        status, errors = launcher.wait()
        assert os.WEXITSTATUS(status) != 0
        assert (
            errors.strip()
            .splitlines()[-1]
            .endswith(
                f"Interrupted: stopped at step {step} of 120 and saved in {tmp_path}; "
                "run the same again with resume=True (--resume) to continue."
            )
        )
        assert steps_logged(tmp_path) == list(range(0, step + 1, 2))
    assert_identical(longer(tmp_path, resume=True), longer_result)


def test_a_program_that_is_killed_continues_from_its_last_checkpoint(
    launcher, longer_result, tmp_path
):
    os.kill(launcher.started(tmp_path, hold=8), signal.SIGKILL)
    launcher.wait()
    # It had logged step 8, and was about to save it.
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    pid = launcher.started(tmp_path, hold=20)
    assert (tmp_path / "checkpoints" / "16").exists()
    with pytest.raises(BlockingIOError):
        longer(tmp_path, resume=True)
    os.kill(pid, signal.SIGKILL)
    launcher.wait()
    assert_identical(longer(tmp_path, resume=True), longer_result)
    assert steps_logged(tmp_path) == EVERY_OTHER_STEP


def test_a_run_killed_again_and_again_at_its_files_is_the_uninterrupted_one(
    launcher, longer_result, tmp_path
):
    folder, while_saving = tmp_path / "run", []
    for event in FILE_EVENTS:
        launcher.start(folder, die=event)
        status, errors = launcher.wait()
        assert os.WTERMSIG(status) == signal.SIGKILL, errors
        while_saving.append((folder / "checkpoints" / "draft").exists())
    assert any(while_saving)
    assert not all(while_saving)
    assert_identical(longer(folder, resume="auto"), longer_result)
    assert steps_logged(folder) == EVERY_OTHER_STEP


def hold_at(number):
    """From now on a run waits, at one step, for a signal that it notes."""
    log = RunDirectory.log

    def log_and_hold(directory, record):
        log(directory, record)
        while record["step"] == number and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            time.sleep(0.01)

    RunDirectory.log = log_and_hold


def die_at(number, workdir):
    """From now on this process counts what it does to files of a folder, and kills itself."""
    seen = []

    def hook(event, arguments):
        of_files = event == "open" or event.startswith(("os.", "shutil."))
        if of_files and any(workdir in str(argument) for argument in arguments):
            seen.append(event)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def launch():
    """The program: makes a child for each run that it is told, one after the other."""
    tasks = pathlib.Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1, "JAX is used as it is imported"
    assert orbax.checkpoint  # imported once, for all children
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while line := sys.stdin.readline():
        match json.loads(line):
            case ["start", workdir, hold, die]:
                reading, writing = os.pipe()
                child, status = os.fork(), None
                if not child:
                    os.dup2(writing, 2)
                    if die:
                        die_at(die, workdir)
                    hold_at(hold)
                    longer(workdir, resume="auto")
                    return
                os.close(writing)
                answer = child
            case ["ended"]:
                if status is None:
                    ended, found = os.waitpid(child, os.WNOHANG)
                    status = found if ended else None
                answer = status is not None
            case ["wait"]:
                with open(reading) as errors:
                    text = errors.read()
                answer = os.waitpid(child, 0)[1] if status is None else status, text
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    launch()
