"""Sources are read a round ahead: what is read when, and what becomes of threads and errors."""

import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import walks

import shohypernet as shn
from shohypernet import sources
from shohypernet.batches import Data
from shohypernet.sources._ahead import Ahead

SGD = optax.sgd(0.1)
ROUND = 6  # rows at most, of two inner steps
AWAY = OSError("disk away")


class OnDisk:
    """Numbers that are read row by row, at a pace that a test may watch."""

    shape, dtype = (20,), np.dtype(np.float32)

    def __init__(self, fails_at=None, error=AWAY):
        self.rounds = 0  # whose reading has begun
        self.fails_at, self.error = fails_at, error
        self.changed = threading.Condition()

    def __getitem__(self, rows):
        if len(rows) <= ROUND:
            with self.changed:
                self.rounds += 1
                self.changed.notify_all()
            if self.rounds == self.fails_at:
                raise self.error
        return rows.astype(np.float32)


def threads():
    return [each for each in threading.enumerate() if each.name.startswith("shohypernet-reading")]


def run(disk, method=None, **kwargs):
    data = walks.DATA._replace(train=sources.rows(disk))
    return walks.run(method or walks.walk(), data=data, seeds=0, steps=6, **kwargs)


def test_the_next_round_is_read_while_one_computes():
    """A round ends only when the reading of the next has begun, also that of the next chunk."""
    disk, overlaps = OnDisk(), []

    def compute(number, params):  # which are those after the round's minibatches
        count = int(number)
        if count < 6 and all(overlaps):
            with disk.changed:
                overlaps.append(disk.changed.wait_for(lambda: disk.rounds > count, timeout=20))
        return number

    def on_step(state, info):
        like = jax.ShapeDtypeStruct((), jnp.int32)
        steps = jax.pure_callback(compute, like, state.steps, state.params)
        return state._replace(steps=steps), info

    run(disk, walks.walk(on_step=on_step), eval_every=4)
    assert overlaps == [True] * 5
    assert disk.rounds == 6  # and nothing twice, nor in vain
    assert threads() == []


class Answer:
    pass


def test_answers_are_prepared_in_one_thread_and_two_are_kept():
    reads, readers, live = [], set(), weakref.WeakSet()

    def read(asked):
        reads.append(int(asked))
        readers.add(threading.get_ident())
        live.add(answer := Answer())
        return answer

    ahead = Ahead(read)
    for number in range(5):
        ahead(number, number + 1)
        assert len(live) <= 3  # a thread may hold the one before for a moment
    assert reads[:5] == [0, 1, 2, 3, 4]
    ahead(5, 5)
    assert reads == list(range(6))
    assert len(readers) == 1
    assert threads() == []
    assert len(live) <= 1


def test_an_answer_is_the_same_whatever_was_foretold():
    ahead = Ahead(lambda asked: 10 * asked)
    pairs = [(1, 2), (7, 8), (8, 1), (1, 1), (2, 3)]
    assert [int(ahead(*pair)) for pair in pairs] == [70 // 7, 70, 80, 10, 20]
    ahead.close()


def test_devices_that_ask_for_the_same_share_its_reading():
    reads = []
    ahead = Ahead(lambda asked: reads.append(asked.tolist()))
    for number in range(3):
        for device in range(2):
            ahead(number, min(number + 1, 2), device)
        ahead([number], [number], 2)  # of another shape
    assert [each for each in reads if each in range(3)] == [0, 1, 2]
    assert threads() == []


def test_a_run_that_is_stopped_leaves_no_thread():
    def interrupt(progress):
        raise KeyboardInterrupt

    for callback, error in ((lambda progress: True, None), (interrupt, KeyboardInterrupt)):
        disk = OnDisk()
        if error:
            with pytest.raises(error):
                run(disk, callbacks=[callback])
        else:
            run(disk, callbacks=[callback])
        assert disk.rounds == 3  # two, and that of the next
        assert threads() == []


def uneven():
    yield from np.ones((4, 3), np.float32)
    yield np.ones(2, np.float32)


PROBLEM = shn.Problem(
    lambda key: jnp.zeros(()),
    lambda w, decay, batch, key: jnp.mean((w - batch) ** 2) + decay * w**2,
    lambda w, decay, batch: jnp.mean((w - batch) ** 2),
    space=shn.hyperparameters.log(),
)


def trained(source):
    sizes = {} if isinstance(source, sources.Stream) else {"batch_size": 4}
    return shn.train(PROBLEM, SGD, jax.random.key(0), 0.1, source, steps=5, **sizes)


def retrained(source):
    data, options = Data(source, walks.DATA.valid), {"steps": 5, "batch_size": 4}
    return shn.retrain(PROBLEM, 0.1, data, optimizer=SGD, with_valid=False, **options)


def searched(source):
    data, options = Data(source, walks.DATA.valid), {"budget": 5, "batch_size": 4}
    search = shn.search.random_search(steps=5)
    return shn.search.run(PROBLEM, search, data, 0.1, optimizer=SGD, **options)


def tuned(source):
    sizes = {"train_batch_size": None} if isinstance(source, sources.Stream) else {}
    return walks.run(walks.walk(), data=walks.DATA._replace(train=source), seeds=0, **sizes)


@pytest.mark.parametrize("call", [trained, retrained, searched, tuned])
def test_an_error_of_a_read_is_the_cause_of_the_run_s(call):
    source = sources.rows(OnDisk(fails_at=3))
    with pytest.raises(sources.ReadError, match=r"^the train split .*OSError: disk away") as caught:
        call(source)
    assert caught.value.__cause__ is AWAY
    assert threads() == []


@pytest.mark.parametrize(
    ("call", "error"), [(searched, shn.Interrupted), (tuned, KeyboardInterrupt)]
)
def test_ctrl_c_while_a_run_waits_for_a_read_is_no_error_of_the_read(call, error):
    """Where JAX calls back in the main thread, it comes up there."""
    source = sources.rows(OnDisk(fails_at=3, error=KeyboardInterrupt()))
    with pytest.raises(error):
        call(source)
    assert threads() == []


@pytest.mark.parametrize("call", [trained, tuned])
def test_a_last_minibatch_that_is_smaller_is_named(call):
    stream = sources.stream(uneven, evaluated=2)
    with pytest.raises(sources.ReadError, match=r"train split .*minibatch 4 .*like the first"):
        call(stream)
    assert threads() == []
