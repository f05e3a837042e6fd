"""Every method on every problem of two levels whose answer is known exactly.

Each cell is what is left of the loss that a method had to gain, the library's own sentence where it
refuses, or the reason why the method goes elsewhere. See `_every_method_worlds` and
`_every_method_data` for the problems, and `_every_method_methods` for the methods.

python -m experiments.every_method --config=configs/every_method.py --workdir=DIR
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

# Nearly all the time is compilation, most of that in passes that make long runs faster. It is read
# when JAX first computes.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)

import numpy as np

from experiments import _every_method_cells as cells
from experiments import _every_method_data as data
from experiments import _every_method_plot, _launch, _plots, _results
from experiments import _every_method_verdicts as verdicts
from experiments import _every_method_worlds as worlds
from experiments._every_method_methods import METHODS, SEARCHES
from experiments._every_method_reasons import REASONS
from experiments._every_method_verdicts import ARRIVED, ELSEWHERE, REFUSED, SHORT, Judged
from experiments._every_method_worlds import World

NAME = "every_method"
WORLDS: dict[str, Callable[[Any], World]] = {
    "duopoly": worlds.duopoly,
    "Dirac-GAN": worlds.dirac,
    "matching pennies": worlds.pennies,
    "prediction": data.prediction,
    "elastic net": data.net,
    "ridge": data.regression,
    "distillation": data.distillation,
    "MAML": worlds.maml,
    "implicit MAML": worlds.implicit_maml,
}
SIGNS = {ARRIVED: "", REFUSED: "refused", ELSEWHERE: "≠ ", SHORT: "! "}
