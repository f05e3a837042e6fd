"""The judge of hypergradients, on a few entries whose verdict is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import loaded

from configs import hypergradient_fidelity as configs
from experiments import _decay_problem, _fidelity_entries, _fidelity_judge
from experiments import hypergradient_fidelity as fidelity
from experiments._fidelity_entries import Entry


@pytest.fixture(scope="module")
def config():
    config = configs.get_config("quick")
    config.update({"levels": (-1.0, 0.0), "main_level": -1.0, "draws": 2, "batch_size": 20})
    return config


@pytest.fixture(scope="module")
def problem(data):
    return _decay_problem.problem_on(data)


@pytest.fixture(scope="module")
def points(problem, data, config):
    return _fidelity_judge.points(problem, data, config)


def by_name(problem, config, method, budget):
    for entry in _fidelity_entries.entries(problem, config):
        if (entry.method, entry.budget) == (method, budget):
            return entry
    raise LookupError(method)


def test_points_are_at_every_level_and_drawn_apart(points):
    assert list(points) == [(-1.0, 0), (-1.0, 1), (0.0, 0)]
    means = [np.mean(_decay_problem.to_ridge(p.hyperparams)) for p, _ in points.values()]
    np.testing.assert_allclose(means, [-1, -1, 0], atol=5 / np.sqrt(130))
    assert len(np.unique(means)) == 3


def test_the_exact_gradient_is_judged_exact(points):
    (first, exact), *_ = points.values()
    del first
    rows = list(
        _fidelity_judge.judge(Entry("twice", 3, lambda point: (_doubled(exact), 7), 20), points)
    )
    assert rows[0].cosine == pytest.approx(1, abs=1e-6)
    assert rows[0].norm_ratio == pytest.approx(2, rel=1e-6)
    assert (rows[0].evaluations, rows[0].passes) == (7, pytest.approx(7 / 3))
    assert rows[1].cosine < 0.999


def _doubled(gradient):
    return jax.tree.map(lambda leaf: 2 * leaf, gradient)


def test_conjugate_gradients_are_exact_and_counted(problem, points, config):
    entry = by_name(problem, config, "conjugate gradients", 50)
    for row in _fidelity_judge.judge(entry, points):
        assert row.cosine == pytest.approx(1, abs=1e-4)
        assert row.norm_ratio == pytest.approx(1, abs=1e-3)
        assert row.evaluations <= 102
        assert row.seconds > 0
        assert row.megabytes > 0


def test_a_hypernets_gradient_is_that_of_its_last_state(problem, points, config):
    """Of a hypernet that knows the answer, w = w* + s ∘ (λ − λ₀): ∂L_valid/∂λ = s ∘ ∂L_valid/∂w."""
    (point, _), *_ = points.values()

    def build(problem, hyper_optimizer):
        return _known(problem, point, hyper_optimizer)

    entry = _fidelity_entries.hypernet_entry(problem, "known", 30, config, build)
    gradient, evaluations = jax.jit(entry.hypergradient)(point)
    slopes = jax.grad(problem.valid_loss)(point.params, point.hyperparams, point.data.valid)
    jax.tree.map(
        lambda found, slope: np.testing.assert_allclose(found, 0.5 * slope, rtol=1e-4, atol=1e-9),
        gradient,
        slopes,
    )
    assert evaluations == 3 * (10 + 1)
    assert entry.batch_size == 20


def _known(problem, point, hyper_optimizer):
    import optax

    import shohypernet as shn
    from shohypernet.hypernets import Hypernet

    def apply(phi, hyperparams):
        return jax.tree.map(
            lambda w, now, then: w + phi * (now - then),
            point.params,
            hyperparams,
            point.hyperparams,
        )

    return shn.simultaneous(
        problem,
        Hypernet(lambda key, params, hyperparams: jnp.float32(0.5), apply),
        hypernet_optimizer=optax.sgd(0.0),
        hyper_optimizer=hyper_optimizer,
    )


def test_what_it_writes(problem, points, config, data, tmp_path, monkeypatch):
    monkeypatch.setattr(_decay_problem, "load_data", lambda config: data)
    few = [by_name(problem, config, "conjugate gradients", 50)]
    few += [by_name(problem, config, "identity (T1-T2)", 0)]
    monkeypatch.setattr(fidelity, "entries", lambda problem, config: few)
    results = fidelity.run(config, tmp_path)
    # Of hypernets none was run.
    assert [claim["holds"] for claim in results["claims"]] == [True, False]
    assert len(results["rows"]) == 2 * len(points)
    names = {path.name for path in tmp_path.iterdir()}
    endings = [
        f"hypergradient_fidelity{which}.{end}"
        for which in ("", "_by_level")
        for end in ("png", "pdf")
    ]
    assert names == {*endings, "hypergradient_fidelity.npz"}
    table = loaded(tmp_path / "hypergradient_fidelity.npz")
    np.testing.assert_array_equal(table["level"], [-1, -1, 0] * 2)
