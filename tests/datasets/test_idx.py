"""IDX files against their bytes."""

import gzip
import pathlib
import struct

import numpy as np
import pytest
from handwritten import (
    TEST,
    TRAIN,
    assert_handwritten,
    assert_three_ways,
    numbers_of,
    rewrite,
    write_idx,
)

from shohypernet.datasets import DataError, load


@pytest.mark.parametrize("compress", [True, False])
def test_idx_round_trip(tmp_path, compress):
    assert_handwritten(load("idx", directory=write_idx(tmp_path, compress=compress)))


def test_train_takes_the_first_and_valid_the_last(idx_folder):
    data = load("idx", directory=str(idx_folder), train=3, valid=4, test=2)
    assert numbers_of(data.train) == [0, 1, 2]
    assert numbers_of(data.valid) == [8, 9, 10, 11]
    assert numbers_of(data.test) == [100, 101]
    assert numbers_of(load("idx", directory=idx_folder, valid=5).train) == list(range(7))


def drop_label(content):
    return struct.pack(">II", 0x801, TRAIN - 1) + content[8:-1]


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("train-images-idx3", lambda c: b"\0\0\x0d\3" + c[4:], "00000803.*00000d03"),
        ("train-images-idx3", lambda c: c[:10], "10 bytes long"),
        ("train-images-idx3", lambda c: c[:-1], "announces"),
        ("t10k-images-idx3", lambda c: c + b"\0", "announces"),
        ("train-labels-idx1", lambda c: c[:4] + struct.pack(">I", 13) + c[8:], "announces"),
        ("train-labels-idx1", drop_label, "11 uint8 images"),
        ("t10k-labels-idx1", lambda c: c[:-1] + b"\x0b", "0 to 9.*11"),
        (
            "t10k-images-idx3",
            lambda c: struct.pack(">IIII", 0x803, TEST, 14, 56) + c[16:],
            r"\(28, 28\).*\(4, 14, 56\)",
        ),
        ("t10k-labels-idx1", lambda c: struct.pack(">II", 0x801, 0), "8 bytes long"),
    ],
)
def test_damaged_idx_is_refused(idx_folder, file, change, complaint):
    rewrite(idx_folder / f"{file}-ubyte.gz", change)
    with pytest.raises(DataError, match=complaint) as caught:
        load("idx", directory=idx_folder)
    assert_three_ways(caught)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:-8] + bytes(8),
        lambda packed: packed[:12] + b"\xff" * 12 + packed[24:],
        lambda packed: b"<html>no such file</html>",
    ],
    ids=["truncated", "checksum", "garbled", "another file"],
)
def test_damaged_gzip_is_refused(idx_folder, damage):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"cannot read .*train-images-idx3-ubyte.gz") as caught:
        load("idx", directory=idx_folder)
    assert_three_ways(caught)


def test_absent_idx_file_is_named(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="neither t10k-labels-idx1-ubyte nor") as caught:
        load("idx", directory=idx_folder)
    assert_three_ways(caught)


def test_idx_mnist_is_the_file_byte_for_byte(mnist_idx):
    data = load("idx", directory=mnist_idx, train=50_000)
    assert [len(split.inputs) for split in data] == [50_000, 10_000, 10_000]
    with gzip.open(pathlib.Path(mnist_idx) / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(60_000, 784)
    for split, expected in ((data.train, pixels[:50_000]), (data.valid, pixels[50_000:])):
        np.testing.assert_array_equal(np.rint(np.asarray(split.inputs) * 255), expected)
    first_digits = np.argmax(data.train.targets[:10], 1).tolist()
    assert first_digits == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
