"""The contenders of benchmarks that no other test runs fit the library: they trace."""

import jax
import jax.numpy as jnp
import pytest

from shohypernet.batches import Data, Examples

STEPS = 4


@pytest.fixture(scope="module")
def hypergradients():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    from benchmarks import hypergradients

    return hypergradients


@pytest.fixture(scope="module")
def hypernets():
    pytest.importorskip("psutil", reason="comes with the bench extra")
    from benchmarks import hypernets

    return hypernets


def test_every_hypergradient_has_the_form_of_its_hyperparameters(hypergradients):
    subject = hypergradients.subject(examples=20, per="output")
    methods = hypergradients.contenders() | hypergradients.implicit_contenders()
    for method in methods.values():
        function = hypergradients.whole(method, subject, STEPS)
        made = jax.eval_shape(function, subject.hyperparams, subject.params, subject.data)
        assert jax.tree.map(jnp.shape, made.gradient) == jax.tree.map(
            jnp.shape, subject.hyperparams
        )


def test_memory_counted_by_hand_of_four_steps(hypergradients):
    counted = {
        name: hypergradients.predicted(name, STEPS, hyperparams=3)
        for name in hypergradients.contenders()
    }
    assert counted == {
        "all steps kept": 5,
        "in segments": 6,
        "iterates kept": 5,
        "both ends kept": 2,
        "nothing kept": 4,
        "forward mode": 8,
    }


def test_every_method_of_hypernets_repeats_its_rounds(hypernets):
    examples = Examples(*(jax.ShapeDtypeStruct((20, n), jnp.float32) for n in (6, 10)))
    data = Data(examples, examples, examples)
    problem = hypernets.problem_of((5,), jnp.zeros((1, 6)))
    key = jax.random.key(0)
    start = jax.eval_shape(problem.init, key)
    for method in hypernets.methods(problem).values():
        state = jax.eval_shape(method.init, key, start)
        assert jax.eval_shape(hypernets.chunk_of(method, size=2), state, key, data) == state
