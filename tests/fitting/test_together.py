"""Which seeds a device steps together is chosen by sizes alone, and again when a run is resumed."""

import jax
import numpy as np
import pytest
from walks import assert_identical, run

from shohypernet import sources
from shohypernet.batches import Data
from shohypernet.fitting import _plan as plans
from shohypernet.fitting import _together as together

SPLITS = Data(np.zeros((1_000, 3), np.float32), np.zeros((500, 3), np.float32))
MEBIBYTE = 2**18  # floats


def chosen(train=100, valid=100, floats=MEBIBYTE, data=SPLITS, inner_steps=1, at_once=None):
    plan = plans.plan(
        seeds=range(4),
        steps=1,
        inner_steps=inner_steps,
        train_batch_size=train,
        valid_batch_size=valid,
        eval_every=1,
        checkpoint_every=1,
        seeds_at_once=at_once,
    )
    # A state of two arrays and a key of 8 bytes; the seed axis counts for nothing.
    like = {
        "w": jax.ShapeDtypeStruct((4, 2, floats // 2 - 2), np.float32),
        "steps": jax.ShapeDtypeStruct((4, 2), np.int32),
        "key": jax.eval_shape(lambda: jax.vmap(jax.random.key)(np.arange(4))),
    }
    return together.seeds_at_once(plan, data, like)


@pytest.mark.parametrize(
    ("sizes", "number"),
    [
        ({}, 1),
        ({"floats": MEBIBYTE - 2}, None),
        ({"train": None, "valid": None}, None),
        ({"train": 100, "valid": None}, None),  # 100 of its own, 500 of all
        ({"train": 100, "valid": None, "inner_steps": 6}, 1),  # 600 of its own, 500 of all
        ({"train": None, "valid": 400}, None),
        ({"at_once": 3}, 3),
        ({"at_once": 3, "floats": 8}, 3),
    ],
)
def test_seeds_go_one_at_a_time_where_they_are_large_and_share_little(sizes, number):
    assert chosen(**sizes) == number


def test_other_devices_and_sources_take_all_at_once(monkeypatch):
    assert chosen(data=Data(*map(sources.rows, SPLITS[:2]))) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chosen() is None


def test_a_resumed_run_chooses_anew_and_ends_where_it_would_have(monkeypatch, tmp_path):
    sizes = {"train_batch_size": 2, "valid_batch_size": 1, "seeds": range(3)}
    run(workdir=tmp_path, steps=4, **sizes)  # all at once
    monkeypatch.setattr(together, "LARGE", 1)
    resumed = run(workdir=tmp_path, resume=True, **sizes)
    whole = run(**sizes)
    np.testing.assert_allclose(resumed.hyperparams, whole.hyperparams, rtol=1e-6)
    assert_identical(run(seeds_at_once=1, **sizes), whole)
