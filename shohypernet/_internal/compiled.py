"""Compiled programs are kept on disk, so that a second run of the same sizes compiles nothing."""

import hashlib
import logging
import os
import pathlib
import platform

import jax
from jax.experimental.compilation_cache import compilation_cache

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def keep() -> None:
    """Let JAX keep compiled programs in ~/.cache/shohypernet, unless the user has said where.

    Set JAX_COMPILATION_CACHE_DIR to another folder, or to nothing, which keeps none. The folder is
    told once, in the log.
    """
    settings = jax.config
    chosen = settings.jax_compilation_cache_dir is not None  # pyright: ignore
    if VARIABLE in os.environ or chosen or not settings.jax_enable_compilation_cache:  # pyright: ignore
        return
    folder = pathlib.Path("~/.cache/shohypernet").expanduser() / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that can't be written is no reason not to run
        return
    settings.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()  # what was compiled before has settled that there is none
    logging.getLogger("shohypernet").info(
        "compiled programs are kept in %s (%s= keeps none)", folder, VARIABLE
    )


def _machine() -> str:
    """A name for what programs are compiled for: homes are shared by processors that differ."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    described = " ".join([platform.machine(), platform.processor(), flags, jax.__version__])
    return hashlib.sha256(described.encode()).hexdigest()[:12]
