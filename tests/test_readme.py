"""The README's example is run as it stands, so that it cannot go stale."""

import pathlib
import re

import numpy as np

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_own_model_example(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    history = names["result"].history
    # A classifier of ten classes that has learned nothing loses log 10 = 2.3 nats.
    assert history.valid_loss[-1, 0] < 0.5
    assert not np.array_equal(history.hyperparams["layers_0"][-1], names["start"]["layers_0"])
    assert "layers_2" in capsys.readouterr().out
