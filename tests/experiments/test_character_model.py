"""Three cells of equal size on a text: what they are given, and the judge of the claim."""

import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import character_model as configs
from experiments import _launch, _text, character_model
from experiments.character_model import HYPER, LSTM, NORMALIZED

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(character_model.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None]
    assert all(2_500 < count <= 3_000 for count in results["numbers"].values())
    with np.load(folder / "character_model.npz") as arrays:
        for name in (LSTM, NORMALIZED, HYPER):
            assert arrays[f"{name}: steps"].tolist() == [[2, 4]]
            assert results["main"][f"bits per character, {name}"] == arrays[f"{name}: test"]


def test_a_text_is_cut_in_order(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text("abcdefghij" * 10 + "é", encoding="utf-8")
    monkeypatch.setenv("SHOHYPERNET_TEXT", str(path))
    config = configs.get_config("text")
    text = _text.load(config)
    assert text.alphabet == "abcdefghijé"
    assert [len(split) for split in text[:3]] == [90, 5, 6]
    whole = np.concatenate(text[:3])
    assert "".join(text.alphabet[i] for i in whole) == path.read_text(encoding="utf-8")
    config.path = str(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="SHOHYPERNET_TEXT"):
        _text.load(config)


def test_streams_hold_each_character_once_as_what_follows():
    made = character_model.streams(np.arange(11), 3)
    assert made.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


def test_bits_are_those_of_the_predictions():
    """A model without weights gives every character the same chance."""
    model = character_model.CharacterModel(nn.SimpleCell(2), 8)
    shapes = jax.eval_shape(model.start, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    assert character_model.bits(model, zeros, jnp.array([[1, 5, 7]])) == pytest.approx(3)


def test_flax_s_lstm_remembers_at_first():
    model = character_model.CharacterModel(nn.OptimizedLSTMCell(2), 3)
    cell = model.start(jax.random.key(0))["params"]["cell"]
    biases = {name: part["bias"].tolist() for name, part in cell.items() if "bias" in part}
    assert biases == {"hi": [0, 0], "hf": [1, 1], "hg": [0, 0], "ho": [0, 0]}


@pytest.mark.parametrize(
    ("hyper", "expected"), [((2.0, 2.1), True), ((2.2, 2.2), False), ((2.2, 1.7), True)]
)
def test_its_claim_can_fail(hyper, expected):
    test = {LSTM: (2.4, 2.4), NORMALIZED: (2.2, 2.2), HYPER: hyper}
    (claim,) = character_model.claims({name: np.array(each) for name, each in test.items()})
    assert claim["holds"] == expected
