"""The programs of docs/ are run as they stand, with fewer steps, and end where they should."""

import json
import re

import jax
import matplotlib.pyplot as plt
import numpy as np
import pages
import pytest
import scipy.optimize
from pages import shortened

import shohypernet as shn

# Pages whose programs other files run.
ELSEWHERE = {"flax_model.md", "problems.md", "searches.md"}
HERE = {
    "checking.md",
    "comparisons.md",
    "data.md",
    "devices.md",
    "more_to_tune.md",
    "overfitting.md",
    "quickstart.md",
    "response.md",
    "running.md",
    "uncertainty.md",
    "which_method.md",
}


def test_every_page_with_python_is_run():
    found = {
        page.name for page in (pages.ROOT / "docs").glob("**/*.md") if pages.blocks(page) != []
    }
    assert found == HERE | ELSEWHERE


@pytest.mark.parametrize("page", ["quickstart", "flax_model"])
def test_a_notebook_has_the_program_of_its_page_and_what_it_puts_out(page):
    """The program itself is run by the tests of the page."""
    notebook = json.loads((pages.ROOT / "docs" / "notebooks" / f"{page}.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = "".join("".join(cell["source"]) + "\n" for cell in cells)
    assert [line for line in code.splitlines() if line] == [
        line for line in "".join(pages.blocks(f"docs/{page}.md")).splitlines() if line
    ]
    outputs = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert outputs
    assert "error" not in outputs


def test_the_quickstart_tunes_all_four():
    names = pages.run(
        "docs/quickstart.md",
        lambda code: shortened(code, steps=("600", 10), warmup_rounds=("100", 2)),
    )
    start, result = names["problem"].start, names["result"]
    assert result.history.valid_loss[-1] < 0.8 * result.history.valid_loss[0]
    changed = jax.tree.map(
        lambda first, last: float(first) != float(last), start, result.hyperparams
    )
    assert jax.tree.leaves(changed) == [True] * 4


def test_runs_resume_and_results_are_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = pages.run("docs/running.md")
    result, again = names["result"], names["again"]
    np.testing.assert_array_equal(result.history.step, range(0, 201, 20))
    assert result.history.valid_loss[-1] < result.history.valid_loss[0]
    np.testing.assert_array_equal(again.hyperparams, result.hyperparams)
    np.testing.assert_array_equal(shn.load("weights.npz"), result.params)
    assert names["alone"].hyperparams.shape[1:] == (2,)
    worst = np.abs(names["data"].test.targets - names["data"].test.inputs @ result.params).max()
    np.testing.assert_allclose(result.history.metrics["worst"].test[-1], worst, rtol=1e-5)
    assert list((tmp_path / "runs" / "board").iterdir())
    assert "trained on all" in str(names["report"])
    assert (tmp_path / "hyperparameters.png").exists()


def test_layers_in_bfloat16_train_and_a_mesh_runs():
    names = pages.run("docs/devices.md", lambda code: shortened(code, steps=("50", 2)))
    assert len(names["result"].history.step) == 11
    assert names["result"].history.valid_loss[-1].shape == (names["devices"],)
    assert names["result"].params["Dense_0"]["kernel"].dtype == np.float32


def test_arrays_are_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = pages.run("docs/data.md")
    key, train = jax.random.key(1), names["data"].train
    for source in (names["large"].train, names["single"]):
        drawn = shn.batches.minibatch(key, source, 4)
        assert {tuple(row) for row in np.asarray(drawn.inputs)} <= {
            tuple(row) for row in names["features"]
        }
        assert drawn.targets.shape == (4, *train.targets.shape[1:])
    assert names["streamed"].train.at(30).inputs.shape == (32, 12)
    row, target = names["simulated"].train.take(jax.numpy.arange(3))
    np.testing.assert_array_equal(target[:, 1], row[:, 0] + row[:, 1] ** 2 > 1)
    assert [len(split.targets) for split in names["data"]] == [300, 150, 150]
    rows = {tuple(row) for split in names["data"] for row in np.asarray(split.inputs)}
    assert rows == {tuple(row) for row in names["features"]}
    assert names["batch"].targets.shape == (32, 2)


def test_what_else_is_tuned(capsys):
    """Wrong labels count for less, and what no loss reads is named."""
    names = pages.run(
        "docs/more_to_tune.md",
        lambda code: shortened(shortened(code, steps=("100", 3)), steps=("2_000", 200)),
    )
    weights, wrong = np.asarray(names["weights"]), np.asarray(names["wrong"])
    print(weights[wrong].mean(), weights[~wrong].mean())
    assert weights[wrong].mean() < weights[~wrong].mean() - 0.05
    printed = capsys.readouterr().out
    rate = re.search(r"learning_rate (\S+),", printed)
    assert float(rate[1]) > 0.01  # so short a training likes larger steps
    assert "\nrate - " in printed
    assert "temperature - " not in printed


def test_decays_are_tuned_and_trained_again():
    """That of the weights, which compiles what the others do."""

    def edit(code):
        grains = '("model", "layer", "weight")'
        assert grains in code
        return shortened(code.replace(grains, '("weight",)'), steps=("1_000|5_000", 10))

    names = pages.run("docs/overfitting.md", edit)
    first, last = (
        tree["layers_2"]["kernel"] for tree in (names["start"], names["result"].hyperparams)
    )
    assert np.mean(first != last) > 0.9
    assert len(names["losses"]) == 4


def test_the_check_of_a_hypergradient_has_a_verdict():
    def edit(code):
        layers = "[nn.Dense(50), nn.relu, nn.Dense(10)]"
        assert layers in code
        code = code.replace(layers, "[nn.Dense(10)]")
        return shortened(code, steps=("500", 20), train=("1_000", 200), valid=("1_000", 100))

    checked = pages.run("docs/checking.md", edit)["checked"]
    assert checked.converged
    assert checked.whole.cosine.mean() > 0
    assert len(checked.leaves) == 2


def test_methods_agree_with_the_exact_decay():
    """By ridge regression in NumPy."""
    names = pages.run("docs/which_method.md")
    train, valid = names["data"][:2]

    def loss(log_decay):
        gram = train.inputs.T @ train.inputs / 40 + np.exp(log_decay) * np.eye(15)
        weights = np.linalg.solve(gram, train.inputs.T @ train.targets / 40)
        return np.mean((valid.inputs @ weights - valid.targets) ** 2)

    best = scipy.optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded")
    for name, decay in names["found"].items():
        assert decay == pytest.approx(np.exp(best.x), rel=0.05), name


def test_the_response_is_learned(tmp_path, monkeypatch):
    """The page's exact response has its gradient at zero, and the learned ones lie near it."""
    monkeypatch.chdir(tmp_path)
    names = pages.run("docs/response.md")
    plt.close(names["figure"])
    assert (tmp_path / "response.png").exists()
    assert (tmp_path / "curve.png").exists()
    assert names["error"].max() < 0.1
    inputs, targets = (np.asarray(part, np.float64) for part in names["data"].train)
    weights = np.asarray(names["exact"](-1.0), np.float64)
    gradient = inputs.T @ (inputs @ weights - targets) / 20 + np.exp(-1.0) * weights
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    slope = (names["exact"](-0.99) - names["exact"](-1.01)) / 0.02
    np.testing.assert_allclose(names["exact_slope"](-1.0), slope, atol=1e-3)
    np.testing.assert_allclose(names["learned"](-1.0), weights, atol=0.1)
    np.testing.assert_allclose(names["slope"], names["exact_slope"](names["at"]), atol=0.1)


def test_weights_of_examples_move():
    names = pages.run("docs/comparisons.md", lambda code: shortened(code, steps=("1_000", 20)))
    weights = np.asarray(names["result"].hyperparams)
    drawn = 1 - 0.999**1_900  # in the 19 minibatches after the first, whose adjoint is zero
    assert np.mean(weights != 0.5) == pytest.approx(drawn, abs=0.04)


def test_a_hypernet_tells_how_sure_it_is():
    """Its intervals hold most of the exact losses, and both methods end near the best decay."""
    names = pages.run("docs/uncertainty.md")
    train, valid = names["data"][:2]

    def loss(decay):
        gram = train.inputs.T @ train.inputs / 20 + decay * np.eye(5)
        weights = np.linalg.solve(gram, train.inputs.T @ train.targets / 20)
        return np.mean((valid.inputs @ weights - valid.targets) ** 2)

    low, high = np.quantile(names["losses"], (0.05, 0.95), axis=0)
    exact = np.array([loss(decay) for decay in np.asarray(names["decays"])])
    assert np.sum((low <= exact) & (exact <= high)) >= 6
    for result in (names["result"], names["found"]):
        assert loss(result.hyperparams) < 1.1 * exact.min()
