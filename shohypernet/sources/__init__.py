"""Splits that aren't held as arrays: read from a disk, made by a function, or handed over in order.

    data = Data(shn.sources.rows(Examples(images, labels)), valid, test)

| from | random access | how |
| --- | --- | --- |
| memory-mapped arrays, HDF5, Zarr | yes | `rows` |
| examples by number: TensorFlow Datasets, Grain, PyTorch | yes | `examples` |
| a function of a key | yes, on the device | `generated` |
| minibatches in an order: a loader, `tf.data`, a generator | no | `stream` |

A source stands in place of arrays wherever a split does. With random access the same keys draw the
same rows as of arrays, so that results are those of the same data in memory. A stream is gone
through by the number of the round. Either way a resumed run reads what it would have read.

A compiled run calls back to read, which costs a copy to the device for each minibatch. What a round
will read is known before it begins: while one round computes, a thread reads for the next.
"""

from shohypernet.sources._generated import generated
from shohypernet.sources._source import ReadError, Source, examples, mean, reading, rows
from shohypernet.sources._stream import Stream, stream

__all__ = [
    "ReadError",
    "Source",
    "Stream",
    "examples",
    "generated",
    "mean",
    "reading",
    "rows",
    "stream",
]
