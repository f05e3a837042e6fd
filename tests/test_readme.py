"""The README's examples are run as they stand, so that they cannot go stale."""

import pathlib
import re

import numpy as np

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_own_model_examples(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the shared study lands
    own, again, many, devices, search, shared = re.findall(
        r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL
    )
    names = {}

    def run(code):
        exec(compile(code, "README.md", "exec"), names)
        return capsys.readouterr().out

    assert "dropout" in run(own)
    # What is found survives training again, from other weights and on more images.
    start, tuned = (float(line.split()[1]) for line in run(again).splitlines())
    assert tuned < 0.8 * start
    run(many)
    history = names["result"].history
    first, last = (history.hyperparams["layers_0"]["kernel"][i] for i in (0, -1))
    assert np.mean(first != last) > 0.5  # not of pixels that are never lit
    run(devices)
    assert len(names["result"].history.step) == 11
    for code in (search, shared):
        run(code)
        assert names["found"].valid_loss < 0.8
    assert (tmp_path / "study.db").exists()
