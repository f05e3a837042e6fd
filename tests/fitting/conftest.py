"""Fixtures of the tests of runs: programs that are compiled once, and runs to compare with."""

import functools
import signal

import jax
import numpy as np
import pytest
import walks
from jax.experimental.compilation_cache import compilation_cache

from shohypernet.fitting import _driver


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def programs_on_disk(cache):
    """A program of one process is loaded by the others: compiling is most of their time."""
    settings = {
        "jax_compilation_cache_dir": str(cache),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    former = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, former):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield


class Once:
    """A jitted function that is traced, lowered and compiled once."""

    def __init__(self, jitted):
        self._jitted = jitted

    @functools.cache  # noqa: B019
    def _compiled(self):
        return self._traced.lower().compile()

    def trace(self, *arguments):
        if not hasattr(self, "_traced"):
            self._traced = self._jitted.trace(*arguments)
            self.jaxpr = self._traced.jaxpr
        return self

    def __call__(self, *arguments):  # without compilation
        return self._jitted(*arguments)

    def lower(self):
        return self

    def compile(self):
        return self._compiled()


@pytest.fixture(scope="session")
def shared_programs():
    """The function that makes a run's programs, which makes those of like runs once."""
    programs, made, kept = _driver.programs, {}, []

    def shared(problem, method, start, data, plan):
        leaves, treedef = jax.tree.flatten(start)
        name = [leaf if callable(leaf) else np.asarray(leaf).tobytes() for leaf in leaves]
        sizes = plan._replace(steps=0, eval_every=0, checkpoint_every=0, seeds=tuple(plan.seeds))
        shapes = str(jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), data))
        key = id(problem), id(method), str(treedef), *name, shapes, sizes
        if key not in made:
            kept.append((problem, method))  # or another one might get its id
            found = programs(problem, method, start, data, plan)
            chunk = functools.cache(lambda steps: Once(found.chunk(steps)))
            made[key] = found._replace(chunk=chunk)
        return made[key]

    return shared


@pytest.fixture(scope="module", autouse=True)
def compiled_once(shared_programs):
    """A program of one test serves the others: tracing and compiling is most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_driver, "programs", shared_programs)
        yield


@pytest.fixture(scope="module")
def calm_result(compiled_once):
    return walks.calm()


@pytest.fixture(scope="module")
def uninterrupted(compiled_once):
    return walks.run()


@pytest.fixture
def ctrl_c_is_heard():
    """Even where these tests are a shell's background job, which is started to ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)
