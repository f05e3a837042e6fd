"""Files for weights, hyperparameters and results: one call to write, one to read, and no pickle.

    shn.save("weights.npz", result.params)
    params = shn.load("weights.npz")

A file is a NumPy archive (`.npz`): arrays by number, and a description in JSON of the nesting of
dicts, lists, tuples, None, and named tuples and specs of this library.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import zipfile
from typing import Any, TypeVar

import jax
import numpy as np

from shohypernet import _specs as specs
from shohypernet._conditions import Conditional
from shohypernet.batches import Data, Examples, SplitLosses

FORMAT = 2
FINISHED = "finished-"  # in the folder of a run, before its last step
_DESCRIPTION = "tree"
_KNOWN: dict[str, type] = {
    kind.__name__: kind for kind in (Data, Examples, SplitLosses, *specs.KINDS, Conditional)
}
_PLAIN = (bool, int, float, str)

Kind = TypeVar("Kind")


def known(kind: type[Kind]) -> type[Kind]:
    """Register a NamedTuple or dataclass, which files hold by its name."""
    assert _KNOWN.setdefault(kind.__name__, kind) is kind, f"there are two {kind.__name__}"
    return kind


def save(path: str | os.PathLike, tree: Any, *, overwrite: bool = False) -> None:
    """Write a tree of arrays to a single file.

    Args:
      path: the file, as named: no ending is added.
      tree: dicts with text or whole numbers for keys, lists, tuples, None, and named tuples of this
        library; leaves are arrays, PRNG keys, Python numbers and text.
      overwrite: whether an existing file may be replaced.

    Raises:
      FileExistsError: if the file exists and overwrite is false.
      TypeError: for anything else in the tree, naming where it is; nothing is written.
    """
    path = pathlib.Path(path).expanduser()
    arrays: dict[str, np.ndarray] = {}
    described = {"format": FORMAT, "tree": _describe(tree, arrays, "the tree")}
    arrays[_DESCRIPTION] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        # Whole or not at all.
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: str | os.PathLike, *, kind: type[Kind] | None = None) -> Any:
    """Read a tree that `save` wrote.

    Args:
      path: the file; or the workdir of a run or search that has ended, for its result.
      kind: type that the tree must have, such as `Result`; None for any.

    Returns:
      The tree, with NumPy arrays for arrays, of the dtypes that they had.

    Raises:
      FileNotFoundError: if there is no such file, or the folder's run hasn't ended.
      ValueError: if it is damaged, was not written by `save`, or holds something else.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        path = _in_folder(path)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        described = json.loads(arrays[_DESCRIPTION].tobytes())
        version = described["format"]
        tree = _rebuild(described["tree"], arrays) if version == FORMAT else None
    except (KeyError, TypeError, AttributeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} was not written by shn.save(), or is damaged: {error}") from error
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}, of another version of this library.")
    if kind is not None and not isinstance(tree, kind):
        raise ValueError(f"{path} holds a {type(tree).__name__}, not a {kind.__name__}.")
    return tree


def keep(folder: pathlib.Path, result: Any, step: int | None) -> None:
    """Write the result of a run that has ended into its folder, if a file can hold it.

    Args:
      folder: that holds the run.
      result: with a method `save`.
      step: of the newest checkpoint, by which `load` knows whether the run went on since.
    """
    path = folder / f"{FINISHED}{step}.npz"
    if path.exists():
        return
    with contextlib.suppress(TypeError):  # λ or weights in types of the user's own
        result.save(path)
        for former in set(folder.glob(f"{FINISHED}*.npz")) - {path}:
            former.unlink()


def _in_folder(folder: pathlib.Path) -> pathlib.Path:
    steps = (path.name for path in (folder / "checkpoints").glob("*"))
    newest = max((int(name) for name in steps if name.isdecimal()), default=None)
    path = folder / f"{FINISHED}{newest}.npz"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} holds no result: it is no workdir, its run hasn't ended (make the same call "
            "with resume=True), or its hyperparameters or weights are of types that shn.save() "
            "can't describe."
        )
    return path


def _describe(node: Any, arrays: dict[str, np.ndarray], where: str) -> Any:
    """The description of a tree, whose arrays it collects."""

    def below(children: Any) -> list[Any]:
        return [_describe(child, arrays, f"{where}[{name!r}]") for name, child in children]

    if node is None or type(node) in _PLAIN:
        return {"value": node}
    if type(node) is dict:
        if not all(type(name) in (str, int) for name in node):
            raise TypeError(f"save() needs text or whole numbers for the keys of {where}.")
        return {"dict": list(node), "of": below(node.items())}
    if type(node) in (list, tuple):
        return {type(node).__name__: below(enumerate(node))}
    if _KNOWN.get(type(node).__name__) is type(node):
        return {"named": type(node).__name__, "of": below(_fields(node))}
    if not isinstance(node, jax.Array | np.ndarray | np.generic) or node.dtype == object:
        raise TypeError(
            f"save() can't describe the {type(node).__name__} at {where}; it takes arrays in "
            "dicts, lists and tuples. Save jax.tree.leaves() of it, or jax.device_get() and pickle."
        )
    return _describe_array(node, arrays)


def _fields(record: Any) -> list[tuple[str, Any]]:
    if isinstance(record, tuple):
        return list(record._asdict().items())  # pyright: ignore
    return [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]


def _describe_array(array: Any, arrays: dict[str, np.ndarray]) -> Any:
    number = str(len(arrays))
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.extended):
        arrays[number] = np.asarray(jax.random.key_data(array))
        generator = str(jax.random.key_impl(array))
        # Ours differs from JAX's own in speed alone.
        return {"key": number, "generator": {"unrolled": "threefry2x32"}.get(generator, generator)}
    array = np.asarray(array)
    if array.dtype.kind != "V":
        arrays[number] = array
        return {"array": number}
    # NumPy writes dtypes such as bfloat16 as raw bytes.
    arrays[number] = array.view(f"u{array.itemsize}")
    return {"array": number, "dtype": array.dtype.name}


def _rebuild(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree of a description."""

    def below(name: str) -> list[Any]:
        return [_rebuild(child, arrays) for child in node[name]]

    match node:
        case {"value": value}:
            return value
        case {"dict": names}:
            return dict(zip(names, below("of"), strict=True))
        case {"list": _}:
            return below("list")
        case {"tuple": _}:
            return tuple(below("tuple"))
        case {"named": name}:
            return _KNOWN[name](*below("of"))
        case {"key": number, "generator": generator}:
            return jax.random.wrap_key_data(jax.numpy.asarray(arrays[number]), impl=generator)
        case {"array": number, "dtype": name}:
            return arrays[number].view(jax.numpy.dtype(name))
        case {"array": number}:
            return arrays[number]
    raise ValueError(f"its description has the unknown entry {node!r}")
