"""The comparison on a small problem: what is run, counted, chosen and written."""

import pytest

from configs import unrolled_comparison as configs
from experiments import _decay_problem, _unrolled_contenders, _unrolled_step_sizes
from experiments import unrolled_comparison as comparison


@pytest.fixture(scope="module")
def config():
    config = configs.get_config("quick")
    config.update(
        {
            "batch_size": 20,
            "evaluations": 200,
            "search_evaluations": 100,
            "inner_steps": 2,
            "unrolled_steps": 4,
            "seeds": (0, 1),
        }
    )
    return config


def test_the_search_finds_the_step_size_that_trains(data, config):
    problem = _decay_problem.problem_on(data)
    start = _decay_problem.decays(problem, -6.0, "weight")
    method = _unrolled_contenders.methods(problem, config)["unrolled"]
    method = method._replace(inner_rates=(1e-9, 0.1, 1e9))
    pairs = _unrolled_step_sizes.search(problem, method, data, start, config)
    assert pairs[0][0] == 0.1
    # With 1e9 every run diverged, with 1e-9 none.
    assert sorted(pairs) == [(rate, hyper) for rate in (1e-9, 0.1) for hyper in config.hyper_rates]


def test_what_it_writes_and_says(data, config, tmp_path, monkeypatch):
    monkeypatch.setattr(_decay_problem, "load_data", lambda config: data)
    # As if the search had not seen that unrolling diverges with the first pair.
    diverging = {config.inner_rates: [(1e9, 0.1)]}
    monkeypatch.setattr(
        _unrolled_step_sizes,
        "search",
        lambda problem, method, *rest: [*diverging.get(method.inner_rates, []), (1e-3, 0.01)],
    )
    results = comparison.run(config, tmp_path)
    assert list(results["methods"]) == list(config.methods)
    # 45 rounds of 2 + 2, with updates of the factors for 2 in rounds 0, 1, 2, 4, 8, 16 and 32, in
    # runs of 5; 40 rounds of 2 · 2 + 1, in runs of 13; and 15 rounds of 3 · 4 + 1, in runs of 5.
    spent = {"centered hyper-training": 194, "hyper-training": 195, "unrolled": 195}
    for name, found in results["methods"].items():
        assert found["gradient_evaluations"] == spent[name]
        assert found["better_pairs_that_diverged_later"] == (name == "unrolled")
        assert len(found["attainable_gain"]) == len(found["attainable_gain_of_decays"]) == 2
    for ending in ("png", "pdf", "npz"):
        assert (tmp_path / f"unrolled_comparison.{ending}").exists()
    assert len(results["claims"]) == 2


def test_other_methods_are_refused(data, config):
    config = config.copy_and_resolve_references()
    config.methods = ("hyper-training", "magic")
    with pytest.raises(ValueError, match=r"some of.*'unrolled' among them; got.*magic"):
        _unrolled_contenders.methods(_decay_problem.problem_on(data), config)
