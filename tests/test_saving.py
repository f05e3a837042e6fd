"""Files of trees: what goes in comes out, and what can't be described is refused."""

import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import shohypernet as shn
from shohypernet._internal import random
from shohypernet.batches import Examples
from shohypernet.training import Trained

TREE = {
    "kernel": jnp.arange(6.0).reshape(2, 3),
    "half": jnp.array([1.5, -2.0], jnp.bfloat16),
    "eighth": np.array(0.5, ml_dtypes.float8_e4m3fn),
    "double": np.array(np.pi),
    "counts": np.array([2**40, -1]),
    "names": np.array(["a", "bc"]),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "more": {3: [None, (), ({"deep": [1, 2.5, "text", True, float("inf")]},)]},
    "examples": Examples(np.ones(2), np.zeros(2)),
    "trained": Trained(np.ones(2), np.zeros(2)),
}


def test_a_tree_comes_back_as_it_was(tmp_path):
    shn.save(tmp_path / "tree", TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    again = shn.load(tmp_path / "tree")
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    for leaf, wanted in zip(jax.tree.leaves(again), jax.tree.leaves(TREE), strict=True):
        if isinstance(wanted, np.ndarray | jax.Array):
            assert leaf.dtype == wanted.dtype
            assert leaf.shape == wanted.shape
            assert leaf.tobytes() == np.asarray(wanted).tobytes()
        else:
            assert type(leaf) is type(wanted)
            assert leaf == wanted


@pytest.mark.parametrize(
    "make", [jax.random.key, random.key, lambda seed: jax.random.key(seed, impl="rbg")]
)
def test_keys_come_back_with_their_numbers(make, tmp_path):
    keys = jax.random.split(make(3), 2)
    shn.save(tmp_path / "keys", [keys])
    (again,) = shn.load(tmp_path / "keys")
    np.testing.assert_array_equal(jax.random.bits(again[1]), jax.random.bits(keys[1]))


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    path = tmp_path / "weights.npz"
    shn.save(path, 1)
    with pytest.raises(FileExistsError, match=r"weights.npz exists; pass overwrite=True"):
        shn.save(path, 2)
    assert shn.load(path) == 1
    shn.save(path, 3, overwrite=True)
    assert shn.load(path) == 3


class Node:
    pass


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [Node()]}, r"the Node at the tree\['a'\]\[0\]"),
        ({"a": lambda: None}, r"the function at the tree\['a'\]"),
        ({"a": np.array([None])}, r"the ndarray at the tree\['a'\]"),
        ({(1, 2): 3}, "text or whole numbers for the keys of the tree"),
        (jax.ShapeDtypeStruct((), float), "the ShapeDtypeStruct at the tree"),
    ],
)
def test_what_cannot_be_described_is_named_and_nothing_is_written(tree, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        shn.save(tmp_path / "file", tree)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_the_former_file(tmp_path, monkeypatch):
    def savez(file, **arrays):
        file.write(b"half of it")
        raise OSError("No space left")

    shn.save(tmp_path / "file", 1)
    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="No space left"):
        shn.save(tmp_path / "file", 2, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert shn.load(tmp_path / "file") == 1


def test_a_folder_without_a_result_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no result.* resume=True"):
        shn.load(tmp_path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        shn.load(tmp_path / "none")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    (tmp_path / "text").write_text("text")
    np.savez(tmp_path / "pickled.npz", tree=np.array([None]))
    shn.save(tmp_path / "whole", np.ones(1000))
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-100])
    with zipfile.ZipFile(tmp_path / "archive", "w"):
        pass
    for name in ("other.npz", "text", "pickled.npz", "cut", "archive"):
        with pytest.raises(ValueError, match=r"was not written by shn\.save"):
            shn.load(tmp_path / name)
