"""What would be published: built, held against the rules of an index, and installed on its own."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from packaging.metadata import Metadata
from pages import ROOT

# Run by the wheel's own interpreter, which finds its dependencies in this one's packages.
IMPORTS = """
import importlib, importlib.metadata, importlib.resources, pkgutil, sys
import shohypernet
assert shohypernet.__file__.startswith(sys.prefix), shohypernet.__file__
for module in pkgutil.walk_packages(shohypernet.__path__, "shohypernet."):
    assert importlib.import_module(module.name).__file__.startswith(sys.prefix)
assert "tensorflow" not in sys.modules
assert importlib.resources.files("shohypernet").joinpath("py.typed").is_file()
print(importlib.metadata.version("shohypernet"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built from the source archive that is built from the repository."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, source)
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "shohypernet", source / "shohypernet", ignore=hidden)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", built, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(built.glob("*.tar.gz"))) == 1
    (found,) = built.glob("*.whl")
    return found


def test_the_metadata_is_what_an_index_takes(wheel):
    """`packaging` checks it by the core metadata specification, as an index does."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = Metadata.from_email(archive.read(name), validate=True)
    assert (metadata.name, metadata.license_expression) == ("shohypernet", "Apache-2.0")
    assert metadata.description_content_type.startswith("text/markdown")
    assert metadata.description.strip() == (ROOT / "README.md").read_text().strip()
    core = {need.name for need in metadata.requires_dist if need.marker is None}
    assert core == {"flax", "jax", "numpy", "optax", "orbax-checkpoint", "tqdm"}


def test_the_wheel_holds_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {pathlib.PurePath(name) for name in archive.namelist()}
    library = {path.relative_to(ROOT) for path in (ROOT / "shohypernet").rglob("*.py")}
    library.add(pathlib.PurePath("shohypernet/py.typed"))
    assert {name for name in names if not name.parts[0].endswith(".dist-info")} == library


def test_the_wheel_is_installed_and_imported_elsewhere(wheel, tmp_path):
    venv.create(tmp_path / "own", with_pip=False)
    python = tmp_path / "own" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    install = "install", "-q", "--no-index", "--no-deps", "--ignore-installed"
    # Without a path on which this repository would be taken for an installed one.
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, *install, wheel], check=True, env=alone)
    (own,) = (tmp_path / "own").glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    done = subprocess.run([python, "-I", "-c", IMPORTS], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert f"-{done.stdout.strip()}-" in wheel.name
