"""Configs of the command line: what --help says of their fields."""

import importlib
import pathlib

import pytest

from experiments import _config_comments, _configs, _launch

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
EVERY = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "common")

COMMON = """
def sizes(count):
    found = {"valid": 10}  # examples
    # Of no field.
    if count > 1:
        found |= {
            # A comment of two
            # lines.
            "train": count,  # examples to train with
        }
    return found
"""
CONFIG = """
from ml_collections import ConfigDict
from configs import common

def inner():
    return {"rate": 0.1}  # Adam

def get_config(size="small"):
    config = ConfigDict({"steps": 3, "inner": inner(), "name": "a # is no comment"} | {
        "steps": 4,  # updates, of which there are so many that their comment needs a second line
    })
    config.update(common_sizes(5))
    # Above a field.
    config.outer = config.other = ConfigDict({"rate": 1})
    config.inner.rate = 0.2
    config["seed"] = 7
    return config
"""
LISTED = """  steps=4                         updates, of which there are so many that
                                  their comment needs a second line
  inner.rate=0.2                  Adam
  name='a # is no comment'
  valid=10                        examples
  # A comment of two lines.
  train=5                         examples to train with
  # Above a field.
  outer.rate=1
  # Above a field.
  other.rate=1
  seed=7"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "76")
    text = CONFIG.replace("common_sizes", "sizes").replace("\nfrom configs import common\n", COMMON)
    path = tmp_path / "config.py"
    path.write_text(text)
    return path


def test_fields_are_listed_with_their_comments_in_the_order_of_the_source(config):
    assert _configs.listing(str(config), _configs.read(str(config))) == LISTED


def test_help_lists_the_fields_as_they_are_overridden(config, capsys):
    def run(config, workdir, *, resume=False):
        raise AssertionError

    with pytest.raises(SystemExit) as stopped:
        _launch.main(run, ["--help", f"--config={config}", "--config.seed=8"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: python -m experiments.NAME --config=")
    assert shown.endswith(f"Fields of {config}:\n{LISTED.replace('seed=7', 'seed=8')}\n")


@pytest.mark.parametrize("name", EVERY)
def test_every_field_of_every_config_is_found_in_its_source(name):
    config = importlib.import_module(f"configs.{name}").get_config().to_dict()
    fields = dict(_configs._flat(config))
    found = _config_comments.read(FOLDER / f"{name}.py")
    assert set(fields) <= set(found)
    # The others are dictionaries, whose fields are listed in their place.
    assert all(
        any(field.startswith(f"{other}.") for field in fields) for other in set(found) - set(fields)
    )


def test_comments_of_common_are_found_where_it_is_called():
    found = _config_comments.read(FOLDER / "search_baselines.py")
    assert found["centered.learning_rate"].beside == "of the weights: Adam on a cosine"
    assert found["learning_rate"].beside == ""
    assert found["directory"].beside == "of the data, where it needs one"
    assert found["training_steps"].above.startswith("An inner run: Adam")
