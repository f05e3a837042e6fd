"""The least time that a step could take on the machine that was measured, counted by hand.

Only what no order of the calculation can leave out: the validation images read once for the
outputs and once for the weights' gradient (they are larger than a core's cache, so the second
reading is not free), the products of both, and the same for the training images. Not counted:
drawing λ, the hypernet, the penalty, the optimisers, and whatever is written and read in between.
"""

from typing import NamedTuple

from benchmarks import setting
from benchmarks.machine import Peaks

FLOAT_BYTES = 4
PASSES = 2  # forward and backward
MULTIPLY_ADD = 2


class Bound(NamedTuple):
    """For one step of all seeds."""

    bytes: float
    flops: float
    seconds_reading: float
    seconds_computing: float

    @property
    def steps_per_second(self) -> float:
        """The rate that the slower of the two allows."""
        return 1 / max(self.seconds_reading, self.seconds_computing)

    @property
    def limit(self) -> str:
        """Which of the two it is."""
        return "reading" if self.seconds_reading > self.seconds_computing else "flops"


def bound(peaks: Peaks, pixels: int, classes: int, seeds: int) -> Bound:
    """The bound for a number of seeds that share one reading of the images."""
    images = setting.VALID_IMAGES + setting.TRAIN_IMAGES
    read = PASSES * images * pixels * FLOAT_BYTES + images * classes * FLOAT_BYTES
    # Every seed has one set of weights to validate and ten to train.
    outputs = (setting.VALID_IMAGES + setting.SAMPLES * setting.TRAIN_IMAGES) * classes
    flops = seeds * PASSES * MULTIPLY_ADD * outputs * pixels
    return Bound(read, flops, read / peaks.bandwidth, flops / peaks.product)


def seeds_where_flops_take_over(peaks: Peaks, pixels: int, classes: int) -> float:
    """The number of seeds at which computing takes as long as reading."""
    one = bound(peaks, pixels, classes, seeds=1)
    return one.seconds_reading / one.seconds_computing
