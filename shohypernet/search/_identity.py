"""Identity of a search: what must be the same for its trials to stand in one study."""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from shohypernet import _conditions as conditions
from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet._internal import jaxprs
from shohypernet._internal.trees import by_path
from shohypernet.batches import Data, Turn
from shohypernet.fitting._identity import describe, describe_data
from shohypernet.search._static import Inner, Variants
from shohypernet.types import Hyperparams, Key

_ADDRESS = re.compile(r"0x[0-9a-f]+")  # of a function, which differs from process to process
_INNER_RUN = "inner run (init, losses, optimizer)"


def identity(variants: Variants, like: Hyperparams, data: Data, steps: int) -> dict[str, str]:
    """Description of a search, as JSON can hold it.

    Functions count by what they compute: by a checksum of the jaxpr of an inner run of one step,
    and of the constants in it, such as step sizes. Another release of JAX may write another jaxpr,
    so it stands by the release's number. Of static choices the first combination counts.

    Args:
      variants: the inner runs.
      like: a tree in the form of λ, static choices included.
      data: the three splits.
      steps: updates of w for each trial.
    """
    space = conditions.as_text(variants.space)
    specs = jax.tree.leaves(hp.broadcast_space(space, like))
    shapes = by_path(np.shape, like)
    of_space = {
        f"space.{name or 'value'}": f"{spec}, shape {list(shape)}"
        for (name, shape), spec in zip(shapes.items(), specs, strict=True)
    }
    of_data = {f"data.{name}": text for name, text in describe_data(data).items()}
    inner = variants.first
    program = _program(inner, variants.rest(like), data)
    return {
        **of_space,
        **of_data,
        "steps": str(steps),
        "batch_size": str(inner.batch_size),
        f"{_INNER_RUN} by jax {jax.__version__}": program,
    }


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """A line for each difference of two identities."""
    # What two releases of JAX trace can't be compared.
    both = there.keys() & here.keys()
    names = {name for name in there.keys() | here.keys() if not name.startswith(_INNER_RUN)} | both
    return [
        f"{name}: was {there.get(name, 'absent')}, is {here.get(name, 'absent')}"
        for name in sorted(names)
        if there.get(name) != here.get(name)
    ]


def _program(inner: Inner, like: Hyperparams, data: Data) -> str:
    problem, optimizer = inner.relaxed()

    def inner_run(key: Key, hyperparams: Hyperparams, data: Data) -> Any:
        state = inner_loop.start(problem, optimizer, key, hyperparams)
        state, _ = inner_loop.drawn_step(
            problem,
            optimizer,
            Turn(key),
            state,
            hyperparams,
            data.train,
            batch_size=inner.batch_size,
        )
        return inner_loop.whole_valid_loss(
            problem, state.params, state.model_state, hyperparams, data.valid
        )

    closed = jax.make_jaxpr(inner_run)(jax.random.key(0), like, data)
    text = _ADDRESS.sub("", str(closed.jaxpr)) + str(
        describe(jaxprs.constants(closed), contents=True)
    )
    return f"crc32 {zlib.crc32(text.encode()):08x}"
