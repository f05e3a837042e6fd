"""Callbacks: what they are given, when they end a run, and how it goes on."""

import numpy as np
import pytest
from walks import START, assert_identical, calm, steps_logged

import shohypernet as shn
from shohypernet import callbacks


def test_a_callback_is_called_after_each_evaluation():
    seen = []

    def look(progress):
        state = np.asarray(progress.state.params)
        seen.append((int(progress.newest.step), state[0], len(progress.history.step)))
        np.testing.assert_array_equal(progress.hyperparams, progress.history.hyperparams[-1])
        assert progress.steps == 12

    result = calm(callbacks=[look])
    assert seen == [(step, 1 + 6 * step, step // 2 + 1) for step in range(2, 13, 2)]
    assert_identical(result, calm())


def test_a_callback_s_hyperparameters_are_in_natural_units():
    seen = []
    problem = shn.Problem(
        lambda key: np.zeros((), np.float32),
        lambda w, lam, batch, key: w * lam.sum() * batch.mean(),
        lambda w, lam, batch: w * batch.mean(),
        space=shn.hyperparameters.log(),
    )
    result = calm(
        hyperparams=np.exp(START),
        problem=problem,
        callbacks=[lambda progress: seen.append(progress.hyperparams)],
    )
    np.testing.assert_array_equal(seen, result.history.hyperparams[1:])


def test_one_of_several_callbacks_ends_a_run_that_may_be_resumed(tmp_path):
    called = []
    each = [lambda progress: progress.newest.step == 6, lambda progress: called.append(None)]
    ended = calm(workdir=tmp_path, callbacks=each, checkpoint_every=100)
    assert ended.history.step[-1] == 6
    assert len(called) == 3
    assert_identical(ended, calm(steps=6))
    assert_identical(calm(workdir=tmp_path, resume=True), calm())
    assert steps_logged(tmp_path) == [0, 2, 4, 6, 8, 10, 12]


def test_max_seconds_counts_what_history_does(monkeypatch):
    result = calm(callbacks=[callbacks.max_seconds(1e-9)])
    assert result.history.step.tolist() == [0, 2]
    assert len(calm(callbacks=[callbacks.max_seconds(1e9)]).history.step) == 7


class Record:
    def __init__(self, valid_loss):
        self.valid_loss = np.asarray(valid_loss)


@pytest.mark.parametrize(
    ("losses", "least", "ends"),
    [
        # One seed: the lowest is at 1, and two more evaluations pass.
        ([[3.0], [2], [2.5], [2.1], [2.2]], 0.0, 3),
        # Falls of less than `least` don't count.
        ([[3.0], [2], [1.95], [1.94], [1.0]], 0.1, 3),
        # The second seed still falls.
        ([[3.0, 9], [2, 8], [2.5, 7], [2.1, 6], [2.2, 6]], 0.0, None),
        # One that is lost waits for the other.
        ([[3.0, 9], [2, np.nan], [2.5, np.nan], [2.1, np.nan]], 0.0, 3),
    ],
)
def test_patience_by_hand(losses, least, ends):
    wait = callbacks.patience(2, least=least)
    records = [Record(loss) for loss in losses]
    asked = [
        wait(callbacks.Progress(None, records[: i + 1], None, 10)) for i in range(len(records))
    ]
    assert (asked.index(True) if any(asked) else None) == ends


def test_patience_in_a_run_keeps_the_best():
    # w, and with it the loss, grows from the start on.
    result = calm(callbacks=[callbacks.patience(3)])
    assert result.history.step[-1] == 6
    assert result.best.step.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: callbacks.max_seconds(0), "max_seconds.* seconds"),
        (lambda: callbacks.patience(0), "evaluations"),
        (lambda: callbacks.patience(3, least=-1.0), "least"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"callbacks.*patience"):
        calm(callbacks=callbacks.patience(3))
    with pytest.raises(TypeError, match=r"callbacks.*needs functions, got int"):
        calm(callbacks=[3])
