"""Self-tuning of a small LSTM at a small size, its sequences, and its claims."""

import json
import pathlib

import jax
import numpy as np
import pytest

from configs import self_tuning_text as configs
from experiments import _launch, _regularized_lstm, _text, self_tuning_text
from experiments._self_tuned import RANDOM, TPE

CONFIG = pathlib.Path(configs.__file__)


def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(self_tuning_text.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    pictures = {f"self_tuning_text.{ending}" for ending in ("png", "pdf", "npz")}
    names = {path.name for path in folder.iterdir()}
    assert names == pictures | {"fit", "config.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 3
    assert np.shape(results["main"]["test, self-tuning"]) == (2,)
    # Two rounds of five inner steps at three gradients, and two more; trials of four steps.
    assert results["costs"]["self-tuning"][0] == 2 * (3 * 5 + 2)
    assert results["costs"]["random search"][0] == 32
    tuned = results["hyperparams"]["self-tuning"][0]
    assert set(tuned["dropout"]) == {"characters", "inputs", "outputs"}


def test_seven_hyperparameters_at_full_size():
    config = configs.get_config()
    start = _regularized_lstm.build(_text.load(config), config).start
    assert set(start["dropout"]) == {"characters", "inputs", "between_layers", "outputs"}
    assert len(jax.tree.leaves(start)) == 7


def test_each_character_but_the_first_is_predicted_once():
    config = configs.get_config("quick")
    text = _text.load(config)
    data = _regularized_lstm.sequences(text, config)
    count = (config.train_characters - 1) // config.sequence
    assert data.train.inputs.shape == (count, config.sequence)
    flat = np.asarray(data.train.inputs).ravel(), np.asarray(data.train.targets).ravel()
    np.testing.assert_array_equal(flat[0], text.train[: count * config.sequence])
    np.testing.assert_array_equal(flat[1][:-1], flat[0][1:])
    assert len(data.valid.inputs) == (len(text.valid) - 1) // config.sequence


def test_an_unknown_variant_is_answered_with_the_known_ones():
    with pytest.raises(LookupError, match="full, text and quick, not 'idx'"):
        configs.get_config("idx")


@pytest.mark.parametrize(
    ("valid", "test", "schedule", "expected"),
    [
        (2.0, 2.0, 2.2, [True, True, True]),
        (2.3, 2.2, 2.0, [False, True, True]),
        (2.3, 2.6, 2.6, [False, False, False]),
    ],
)
def test_its_claims_can_fail(valid, test, schedule, expected):
    def of_seeds(value):
        return np.full(2, value)

    run = self_tuning_text
    found = run.claims(
        {run.TUNED: of_seeds(valid), RANDOM: of_seeds(2.1), TPE: of_seeds(2.2)},
        {
            run.OFF: of_seeds(2.5),
            RANDOM: of_seeds(2.1),
            TPE: of_seeds(2.15),
            run.TUNED: of_seeds(test),
            run.SCHEDULE: of_seeds(schedule),
        },
    )
    assert [claim["holds"] for claim in found] == expected
    # Nothing is claimed against searches that there were none of.
    alone = {name: of_seeds(each) for name, each in ((run.OFF, 2.5), (run.TUNED, test))}
    alone[run.SCHEDULE] = of_seeds(schedule)
    alone_found = run.claims({run.TUNED: of_seeds(valid)}, alone)
    assert [claim["holds"] for claim in alone_found] == expected[2:]
