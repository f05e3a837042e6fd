"""Folders with data sets, handwritten and real."""

import os

import pytest
from handwritten import write_idx


@pytest.fixture
def idx_folder(tmp_path):
    return write_idx(tmp_path)


@pytest.fixture(scope="module")
def mnist_idx():
    folder = os.environ.get("SHOHYPERNET_MNIST_IDX")
    if not folder:
        pytest.skip("SHOHYPERNET_MNIST_IDX doesn't point at MNIST's IDX files")
    return folder
