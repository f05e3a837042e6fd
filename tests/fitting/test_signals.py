"""Signals that this process sends to itself; test_fit.py has those sent to a run."""

import os
import signal
import threading

import pytest

from shohypernet.fitting._signals import Interrupted, Interruption

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def handled():
    """This test's own handlers, and what they were told."""
    told = []
    former = [
        signal.signal(number, lambda number, frame: told.append(number)) for number in SIGNALS
    ]
    yield told
    for number, handler in zip(SIGNALS, former, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_acts(number, second, handled, capfd):
    with Interruption() as interruption:
        assert interruption.signal_number is None
        signal.raise_signal(number)
        assert interruption.signal_number == number
        assert handled == []
        assert "Stopping" in capfd.readouterr().err
        signal.raise_signal(second)
        assert handled == [second]
    assert interruption.signal_number == number
    assert capfd.readouterr().err == ""


def test_former_handlers_come_back(handled):
    former = [signal.getsignal(number) for number in SIGNALS]
    with Interruption():
        assert all(signal.getsignal(n) is not f for n, f in zip(SIGNALS, former, strict=True))
    assert [signal.getsignal(number) for number in SIGNALS] == former
    with pytest.raises(ValueError, match="from within"), Interruption():
        raise ValueError("from within")
    assert [signal.getsignal(number) for number in SIGNALS] == former
    signal.raise_signal(signal.SIGTERM)
    assert handled == [signal.SIGTERM]


def test_one_that_does_not_listen_leaves_signals_alone(handled):
    with Interruption(listening=False) as interruption:
        signal.raise_signal(signal.SIGTERM)
    assert handled == [signal.SIGTERM]
    assert interruption.signal_number is None


def test_what_is_ignored_stays_ignored(handled, capfd):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.signal_number is None
        signal.raise_signal(signal.SIGTERM)
        assert interruption.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_it_can_be_entered_in_any_thread(handled):
    entered = []

    def enter():
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGTERM)
            entered.append(interruption.signal_number)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [None]
    assert handled == [signal.SIGTERM]


def test_a_closed_standard_error_is_no_reason_to_fail(handled, monkeypatch):
    def write(descriptor, content):
        raise OSError("closed")

    monkeypatch.setattr(os, "write", write)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
    assert interruption.signal_number == signal.SIGTERM


def test_interrupted_passes_by_those_who_catch_errors():
    stopped = Interrupted("saved", signal.SIGTERM)
    assert isinstance(stopped, KeyboardInterrupt)
    assert not isinstance(stopped, Exception)
    assert str(stopped) == "saved"
    assert stopped.signal_number == signal.SIGTERM
