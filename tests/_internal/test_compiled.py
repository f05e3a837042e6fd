"""Compiled programs outlive a process, where the user hasn't said otherwise."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from shohypernet._internal import compiled


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of our own, and JAX as it comes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    settings = {
        "jax_compilation_cache_dir": None,
        "jax_enable_compilation_cache": True,
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    former = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, former):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield tmp_path


def programs(folder):
    return sorted(folder.rglob("jit_tripled*"))


def tripled(number):
    return 3 * number


def test_programs_are_kept_in_the_home(home):
    jax.jit(lambda number: 2 * number)(jnp.ones(7))  # which settles that JAX keeps none
    compiled.keep()
    jax.jit(tripled)(jnp.ones(7))
    kept = programs(home / ".cache" / "shohypernet")
    assert kept
    jax.clear_caches()
    compiled.keep()
    jax.jit(tripled)(jnp.ones(7))
    assert programs(home / ".cache" / "shohypernet") == kept


@pytest.mark.parametrize("by", ["variable", "config", "nowhere", "switch"])
def test_what_the_user_chose_stays(home, monkeypatch, by):
    if by in ("variable", "nowhere"):
        monkeypatch.setenv(compiled.VARIABLE, "" if by == "nowhere" else str(home / "mine"))
    elif by == "config":
        jax.config.update("jax_compilation_cache_dir", str(home / "mine"))
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    before = jax.config.jax_compilation_cache_dir
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir == before
    assert not (home / ".cache").exists()


def test_a_home_that_cannot_be_written_is_no_obstacle(home):
    (home / ".cache").write_text("a file")
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None
