"""MNIST and Fashion-MNIST as TensorFlow Datasets prepares them, shuffled; without TensorFlow."""

import io
import os
from typing import Any

import numpy as np

from shohypernet.datasets._pool import DataError, Pool


def read(name: str, directory: str | os.PathLike | None) -> tuple[Pool, Pool]:
    """The training pool and the test pool of a data set."""
    # TFDS itself reads TFDS_DATA_DIR only on its first import.
    directory = directory or os.environ.get("TFDS_DATA_DIR")
    try:
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder(name, data_dir=directory)  # decorated methods have no types
        if not builder.is_prepared():
            raise FileNotFoundError(f"nothing is prepared in {builder.data_dir}")
        # Decoded by Pillow: TFDS is slower, and asks for OpenCV.
        skip = {"image": tfds.decode.SkipDecoding()}
        train = _decoded(builder.as_data_source(split="train", decoders=skip))
        return train, _decoded(builder.as_data_source(split="test", decoders=skip))
    except ImportError as error:
        raise DataError(
            f"{name!r} needs tensorflow_datasets, array_record and pillow ({error}): "
            "pip install 'shohypernet[data]'"
        ) from error
    except Exception as error:  # the readers below TFDS raise many kinds on a corrupted file
        where = directory or "TFDS's default folder"
        raise DataError(f"cannot read {name!r} from {where}: {error}") from error


def _decoded(source: Any) -> Pool:
    from PIL import Image

    records = source.__getitems__(range(len(source)))
    images = np.stack([np.asarray(Image.open(io.BytesIO(record["image"]))) for record in records])
    return images, np.array([record["label"] for record in records])
