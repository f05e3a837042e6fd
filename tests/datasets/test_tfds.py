"""What TensorFlow Datasets prepared, against the same images in IDX files."""

import collections
import os
import pathlib

import numpy as np
import pytest
from handwritten import assert_handwritten, assert_three_ways, assert_well_formed, write_tfds

from shohypernet.datasets import DataError, load


def test_tfds_round_trip(tmp_path, monkeypatch):
    write_tfds(tmp_path)
    assert_handwritten(load("mnist", directory=tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert_handwritten(load("mnist"))


def test_unprepared_tfds_is_refused_and_not_prepared(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(DataError, match=r"nothing is prepared in .*fashion_mnist") as caught:
        load("fashion_mnist", directory=tmp_path)
    assert_three_ways(caught)
    assert not list(tmp_path.iterdir())


def overwrite(path):
    path.write_bytes(b"garbage" * 20_000)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def garble(path):
    content = path.read_bytes()
    start = content.index(b"IHDR")
    path.write_bytes(content[:start] + bytes(200) + content[start + 200 :])


def other_format(path):
    path.write_text(path.read_text().replace("array_record", "tfrecord"))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("mnist-train.array_record-00000-of-00001", overwrite),
        ("mnist-train.array_record-00000-of-00001", cut),
        ("mnist-train.array_record-00000-of-00001", garble),
        ("mnist-test.array_record-00000-of-00001", pathlib.Path.unlink),
        ("dataset_info.json", overwrite),
        ("dataset_info.json", other_format),
    ],
)
def test_damaged_tfds_is_refused(tmp_path, file, damage):
    damage(write_tfds(tmp_path) / file)
    with pytest.raises(DataError, match=f"cannot read 'mnist' from {tmp_path}") as caught:
        load("mnist", directory=tmp_path)
    assert_three_ways(caught)


# --- the real thing, where there is a copy ----------------------------------------------------


def prepared(name):
    root = os.environ.get("TFDS_DATA_DIR")
    if not (root and (pathlib.Path(root) / name).is_dir()):
        pytest.skip(f"TFDS_DATA_DIR doesn't point at a prepared {name}")
    return root


def image_bytes(*splits):
    """Each example as bytes: its 784 pixels, then its digit."""
    inputs, targets = (np.concatenate(parts) for parts in zip(*splits, strict=True))
    pixels = np.rint(inputs * 255).astype(np.uint8)
    rows = np.concatenate([pixels, targets.argmax(1)[:, None].astype(np.uint8)], axis=1)
    return [row.tobytes() for row in rows]


def test_tfds_and_idx_hold_the_same_mnist_in_different_orders(mnist_idx):
    shuffled = load("mnist", directory=prepared("mnist"))
    standard = load("idx", directory=mnist_idx)
    for pick in (lambda data: (data.train, data.valid), lambda data: (data.test,)):
        first, second = image_bytes(*pick(shuffled)), image_bytes(*pick(standard))
        assert first != second
        assert collections.Counter(first) == collections.Counter(second)


def test_fashion_mnist_is_whole():
    data = load("fashion_mnist", directory=prepared("fashion_mnist"))
    assert [len(split.inputs) for split in data] == [50_000, 10_000, 10_000]
    for split in data:
        assert_well_formed(split)
    np.testing.assert_array_equal(data.train.targets.sum(0) + data.valid.targets.sum(0), 6_000)
    np.testing.assert_array_equal(data.test.targets.sum(0), 1_000)
