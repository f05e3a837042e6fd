"""More images on a disk than memory may hold: tuned from there, stopped, and gone on with.

    python -m benchmarks.sources --folder=/tmp/sources

It writes 10 GB of images, unless they are there, and allows itself 2 GB of memory of its own
(RLIMIT_DATA; pages of the file that the system keeps are not its own). A convolutional network is
tuned in one go, and in two halves: both must end in the same weights, bit for bit.
"""

import argparse
import pathlib
import re
import resource
import time
import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from shohypernet.batches import Data, Examples

SHAPE = (64, 64, 3)
VALID, TEST = 10_000, 4_000
STEPS, EVERY, INNER, SIZE = 80, 40, 5, 100


class Network(nn.Module):
    """Two convolutions and a mean."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits of two classes, from bytes."""
        scaled = images.astype(jnp.float32) / 255 - 0.5
        hidden = nn.relu(nn.Conv(8, (5, 5), (4, 4))(scaled))
        hidden = nn.relu(nn.Conv(16, (3, 3), (2, 2))(hidden))
        return nn.Dense(2)(hidden.mean((1, 2)))


def main() -> None:
    """Tune, and print losses, seconds, memory and whether the halves agree."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for images and runs")
    parser.add_argument("--gigabytes", type=float, default=10.0, help="of images, 10^9 bytes each")
    parser.add_argument("--memory", type=float, default=2.0, help="of this process, in GB")
    parsed = parser.parse_args()
    parsed.folder.mkdir(parents=True, exist_ok=True)
    count = int(parsed.gigabytes * 1e9) // int(np.prod(SHAPE))
    images = drawn(parsed.folder / f"images-{count}.npy", count)
    allowed = int(parsed.memory * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    began = time.perf_counter()
    whole = tuned(images, parsed.folder / "whole", STEPS)
    seconds = time.perf_counter() - began
    tuned(images, parsed.folder / "halves", STEPS // 2)
    halves = tuned(images, parsed.folder / "halves", STEPS)
    status = pathlib.Path("/proc/self/status").read_text()
    own = int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1e6
    print(whole.describe())
    print(f"{images.nbytes / 1e9:.1f} GB of images, {own:.2f} GB of memory, {seconds:.0f} s")
    print(f"In halves: {'the same' if checksum(halves) == checksum(whole) else 'OTHER'} weights.")


def drawn(path: pathlib.Path, count: int) -> np.ndarray:
    """Images of noise, half of them darker on the left, mapped into memory."""
    if not path.exists():
        rng, draft = np.random.default_rng(0), path.with_suffix(".draft")
        images = np.lib.format.open_memmap(draft, "w+", np.uint8, (count, *SHAPE))
        for first in range(0, count, 2_000):
            part = images[first : first + 2_000]
            part[:] = rng.integers(0, 256, part.shape, np.uint8)
            part[::2, :, : SHAPE[1] // 2] //= 2
        images.flush()
        draft.rename(path)
    return np.load(path, mmap_mode="r")


def tuned(images: np.ndarray, workdir: pathlib.Path, steps: int) -> shn.Result:
    """A run on the images, or the rest of one."""
    labels = (np.arange(len(images)) % 2).astype(np.int32)
    ends = len(images) - VALID - TEST, len(images) - TEST

    def split(rows: slice) -> Any:
        return shn.sources.rows(Examples(images[rows], labels[rows]))  # pyright: ignore

    data = Data(split(slice(ends[0])), split(slice(*ends)), split(slice(ends[1], None)))
    problem = shn.supervised(
        Network(),
        np.zeros((1, *SHAPE), np.uint8),  # pyright: ignore
        lambda made, label: optax.softmax_cross_entropy_with_integer_labels(made, label).mean(),
        regularizers=[shn.regularizers.weight_decay(1e-3)],
    )
    method = shn.soba(problem, optimizer=optax.sgd(0.1), hyper_optimizer=optax.adam(3e-2))
    return shn.fit(
        problem,
        method,
        data,
        steps=steps,
        eval_every=EVERY,
        workdir=workdir,
        resume="auto",
        inner_steps=INNER,
        train_batch_size=SIZE,
        valid_batch_size=SIZE,
    )


def checksum(result: shn.Result) -> int:
    """Of weights and hyperparameters."""
    leaves = jax.tree.leaves((result.params, result.hyperparams))
    return zlib.crc32(b"".join(np.asarray(leaf).tobytes() for leaf in leaves))


if __name__ == "__main__":
    main()
