"""Tiny data sets whose images name themselves, written as each source lays them out."""

import gzip
import io
import json
import pathlib
import struct

import jax
import numpy as np
import pytest

from shohypernet.batches import Examples

TRAIN, TEST = 12, 4  # examples in the two pools


def self_naming_pool(count, first=0):
    """Images whose pixels are all their number, but for two; labels are the number's last digit."""
    images = np.zeros((count, 28, 28), np.uint8) + np.arange(first, first + count)[:, None, None]
    images[:, 1, 2], images[:, 27, 27] = 255, 0
    return images.astype(np.uint8), (np.arange(first, first + count) % 10).astype(np.uint8)


def write_idx(folder, *, compress=True):
    for prefix, (images, labels) in {
        "train": self_naming_pool(TRAIN),
        "t10k": self_naming_pool(TEST, first=100),
    }.items():
        contents = {
            "images-idx3": struct.pack(">IIII", 0x803, len(images), 28, 28) + images.tobytes(),
            "labels-idx1": struct.pack(">II", 0x801, len(labels)) + labels.tobytes(),
        }
        for kind, content in contents.items():
            path = folder / f"{prefix}-{kind}-ubyte"
            if compress:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return folder


def write_tfds(root):
    """Writes a tiny prepared `mnist` as TFDS lays it out, record by record."""
    tfds = pytest.importorskip("tensorflow_datasets")
    writer = pytest.importorskip("array_record.python.array_record_module").ArrayRecordWriter
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    folder = pathlib.Path(tfds.builder("mnist", data_dir=root).data_dir)
    folder.mkdir(parents=True)
    pools = {"train": self_naming_pool(TRAIN), "test": self_naming_pool(TEST, first=100)}
    for split, (images, labels) in pools.items():
        records = writer(str(folder / f"mnist-{split}.array_record-00000-of-00001"), "group_size:1")
        for image, label in zip(images, labels, strict=True):
            png = io.BytesIO()
            Image.fromarray(image).save(png, format="PNG")
            example = tf_example_pb2.Example()
            example.features.feature["image"].bytes_list.value.append(png.getvalue())
            example.features.feature["label"].int64_list.value.append(int(label))
            records.write(example.SerializeToString())
        records.close()
    splits = [
        {
            "name": split,
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "shardLengths": [str(len(labels))],
            "numBytes": "1",
        }
        for split, (_, labels) in pools.items()
    ]
    info = {"name": "mnist", "version": folder.name, "fileFormat": "array_record", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(
        json.dumps(tfds.builder("mnist", data_dir=root / "none").info.features.to_json())
    )
    return folder


def rewrite(path, change):
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


def numbers_of(examples):
    """Reads back each self-naming image's number from its first pixel."""
    return np.rint(np.asarray(examples.inputs[:, 0]) * 255).astype(int).tolist()


def assert_handwritten(data):
    for examples, numbers in zip(data, (range(10), range(10, 12), range(100, 104)), strict=True):
        assert numbers_of(examples) == list(numbers)
        expected = np.float32(np.array(numbers)[:, None] * np.ones(784)) / np.float32(255)
        expected[:, 1 * 28 + 2], expected[:, -1] = 1, 0
        np.testing.assert_array_equal(examples.inputs, expected)
        np.testing.assert_array_equal(np.argmax(examples.targets, 1), np.array(numbers) % 10)
        assert_well_formed(examples)


def assert_well_formed(examples):
    inputs, targets = map(np.asarray, examples)
    assert isinstance(examples, Examples)
    assert all(isinstance(leaf, jax.Array) for leaf in examples)
    assert inputs.dtype == targets.dtype == np.float32
    assert inputs.shape == (len(targets), 784)
    assert targets.shape == (len(inputs), 10)
    assert inputs.min() == 0
    assert inputs.max() == 1
    assert set(np.unique(targets)) == {0, 1}
    assert (targets.sum(1) == 1).all()


def assert_three_ways(caught):
    for way in ("mnist_5k", "shohypernet[prepare]", "tfds build", "TFDS_DATA_DIR", "idx"):
        assert way in str(caught.value)
