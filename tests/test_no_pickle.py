"""No source of ours can load a pickle, which would run whatever code a file holds."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("shohypernet", "experiments", "benchmarks", "configs")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def unpickles(source):
    """What in a source may load a pickle."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [name.name for name in names if name.name.split(".")[0] in PICKLERS]
            case ast.ImportFrom(module=str(module)):
                found = [module] if module.split(".")[0] in PICKLERS else []
            case ast.keyword(arg="allow_pickle", value=value):
                safe = isinstance(value, ast.Constant) and value.value is False
                found = [] if safe else ["allow_pickle"]
            case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                found = ["torch.load"]
            case ast.Attribute(attr="read_pickle"):
                found = ["read_pickle"]
            case _:
                found = []
        yield from found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles(path):
    assert list(unpickles(path.read_text())) == []


def test_it_would_be_found():
    source = """
import pickle, numpy as np
from joblib import load
def some():
    import dill.session
    return np.load("a", allow_pickle=True), torch.load("b"), pd.read_pickle("c")
np.load("d"), np.load("e", allow_pickle=False)
"""
    assert sorted(unpickles(source)) == [
        "allow_pickle", "dill.session", "joblib", "pickle", "read_pickle", "torch.load",
    ]  # fmt: skip
