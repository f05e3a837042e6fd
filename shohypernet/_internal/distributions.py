"""Many numbers in a line of text: median, middle 90 %, and a histogram."""

import numpy as np

LEAST = 10  # numbers; of fewer the least and the greatest say more
BARS = "▁▂▃▄▅▆▇█"
BINS = 12


def show(values: np.ndarray) -> str:
    """One number, or a few by their median and range, or many by `describe`."""
    if values.ndim == 0:
        return f"{values:.4g}"
    if values.size >= LEAST:
        return describe(values)
    return f"{np.median(values):.4g} [{values.min():.4g}, {values.max():.4g}]"


def describe(values: np.ndarray) -> str:
    """Such as "0.01 [0.001, 5] ▁▂▅█▃▁▁▁▂▁▁▁ of 39,760"; bins are even in log, if that is wide.

    Args:
      values: numbers, any shape.
    """
    finite = values[np.isfinite(values)]
    lost = f", {values.size - finite.size:,} not finite" if finite.size < values.size else ""
    if not finite.size:
        return f"none finite of {values.size:,}"
    low, median, high = np.quantile(finite, [0.05, 0.5, 0.95])
    histogram = f" {_histogram(finite, low, high)}" if low < high else ""
    return f"{median:.4g} [{low:.4g}, {high:.4g}]{histogram} of {values.size:,}{lost}"


def _histogram(values: np.ndarray, low: float, high: float) -> str:
    if low > 0 and high > 10 * low:
        values, low, high = np.log(values[values > 0]), np.log(low), np.log(high)
    counts, _ = np.histogram(values, BINS, (low, high))  # of those within
    heights = np.ceil(counts / counts.max() * (len(BARS) - 1)).astype(int)
    return "".join(BARS[height] for height in heights)
