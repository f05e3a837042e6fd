"""The site of docs/ builds without a warning, has all of the library, and fetches nothing."""

import html.parser
import inspect
import os
import subprocess
import sys

import pytest
from mkdocstrings import Inventory
from pages import ROOT

import shohypernet as shn

FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A strict build, which broken links and anchors, lost pages and bad docstrings end."""
    built = tmp_path_factory.mktemp("site")
    config = ROOT / "docs" / "site" / "mkdocs.yml"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", built]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return built


def public_names():
    """Functions and classes that `shohypernet` and its packages export, as users write them."""
    for package in [shn, *filter(inspect.ismodule, vars(shn).values())]:
        for name in getattr(package, "__all__", ()):
            if callable(getattr(package, name)):
                yield f"{package.__name__}.{name}"


def test_the_reference_has_every_public_name(site):
    with (site / "objects.inv").open("rb") as file:
        known = set(Inventory.parse_sphinx(file))
    names = set(public_names())
    assert {"shohypernet.fit", "shohypernet.search.tpe"} <= names
    assert not names - known


def test_nothing_comes_from_another_host(site):
    fetched = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            fetched.append(dict(attrs).get(FETCHED.get(tag, "")) or "")

    for page in site.glob("**/*.html"):
        Reader().feed(page.read_text())
    assert any(address.endswith(".css") for address in fetched)
    assert not [address for address in fetched if "//" in address]


def test_every_figure_is_in_the_gallery():
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    figures = (ROOT / "docs" / "figures").glob("*.png")
    assert not [figure.name for figure in figures if f"](figures/{figure.name})" not in gallery]
