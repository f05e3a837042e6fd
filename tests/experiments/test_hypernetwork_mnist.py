"""A generated kernel beside an ordinary one: sizes, crops, and the judge of its claims."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import hypernetwork_mnist as configs
from experiments import _launch, hypernetwork_mnist

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(hypernetwork_mnist.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None, None]
    with np.load(folder / "hypernetwork_mnist.npz") as arrays:
        for name in (hypernetwork_mnist.PLAIN, hypernetwork_mnist.GENERATED):
            assert arrays[f"{name}: epoch"].tolist() == [[1, 2]]
            assert results["main"][f"test error, %, {name}"] == [arrays[f"{name}: test"][0, -1]]


def test_the_paper_s_networks_have_its_numbers():
    networks = hypernetwork_mnist.networks(configs.get_config("idx"))
    assert [*map(hypernetwork_mnist.numbers, networks.values())] == [21_210, 12_910]


def test_crops_shift_images_by_a_pixel_at_most(key):
    """An image whose one bright pixel is in the middle, and one that is all bright."""
    image = np.zeros((28, 28), np.float32)
    image[14, 14] = 1
    images = jnp.asarray(np.stack([image.ravel()] * 200 + [np.ones(784, np.float32)] * 200))
    made = np.asarray(hypernetwork_mnist.cropped(key, images, 2))[..., 0]
    assert made.shape == (400, 28, 28)
    places = {tuple(np.argwhere(each)[0]) for each in made[:200]}
    assert places == {(row, column) for row in (13, 14, 15) for column in (13, 14, 15)}
    borders = {int(each.sum()) for each in made[200:]}
    assert borders == {28 * 28, 27 * 28, 27 * 27}


def test_errors_are_percents_of_all_images(monkeypatch):
    monkeypatch.setattr(hypernetwork_mnist, "MOST_IMAGES", 2)
    labels = jax.nn.one_hot(jnp.array([0, 1, 2, 3, 4]), 10)
    examples = hypernetwork_mnist.Examples(jnp.zeros((5, 784)), labels)

    def wrong(params, part):
        assert len(part.targets) <= 2
        return jnp.sum(jnp.argmax(part.targets, -1) != params)

    assert hypernetwork_mnist.percent_wrong(wrong, 3, examples) == pytest.approx(80)


@pytest.mark.parametrize(
    ("counts", "errors", "expected"),
    [
        ((21_210, 12_910), (0.77, 0.79), [True, True]),
        ((21_210, 12_910), (0.77, 0.9), [True, False]),
        ((21_210, 12_914), (0.9, 0.7), [False, True]),
    ],
)
def test_its_claims_can_fail(counts, errors, expected):
    names = hypernetwork_mnist.PLAIN, hypernetwork_mnist.GENERATED
    found = hypernetwork_mnist.claims(
        dict(zip(names, counts, strict=True)),
        {name: np.array([each]) for name, each in zip(names, errors, strict=True)},
    )
    assert [claim["holds"] for claim in found] == expected
