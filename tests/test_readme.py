"""The README's examples are run as they stand, so that they cannot go stale."""

import pathlib
import re

import numpy as np

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_own_model_examples(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the shared study lands
    own, devices, search, shared = re.findall(
        r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL
    )
    names = {}
    exec(compile(own, "README.md", "exec"), names)
    history = names["result"].history
    # A classifier of ten classes that has learned nothing loses log 10 = 2.3 nats.
    assert history.valid_loss[-1, 0] < 0.5
    first, last = (history.hyperparams["layers_0"]["kernel"][i, 0] for i in (0, -1))
    assert np.mean(first != last) > 0.5  # not of pixels that are never lit
    assert "layers_2" in capsys.readouterr().out
    exec(compile(devices, "README.md", "exec"), names)
    assert len(names["result"].history.step) == 11
    for code in (search, shared):
        exec(compile(code, "README.md", "exec"), names)
        assert names["found"].valid_loss[0] < 0.8
    assert (tmp_path / "study.db").exists()
