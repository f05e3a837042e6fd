"""NumPy archives that experiments wrote, read whole and closed."""

import numpy as np


def loaded(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
