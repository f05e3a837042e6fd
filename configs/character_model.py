"""Characters predicted by an LSTM, a LayerNorm-LSTM and a HyperLSTM of equal size.

After Ha, Dai and Le (2016), arXiv:1609.09106, section 4.3, at a small size. Each gets as many
units as make no more than `parameters` numbers, the same batches and the same number of steps;
seconds of the processor are told beside.

    python -m experiments.character_model --config=configs/character_model.py:text \\
      --config.path=tinyshakespeare.txt --workdir=DIR

`:text` takes a text of yours, from the file that `--config.path` or the environment variable
SHOHYPERNET_TEXT names. The default, `:full`, is Python's own language reference, as `help()` has
it, of which no claim is judged, for each release of Python has another. The first nine tenths
train, then half of the rest validates and half tests.

On tinyshakespeare (1.1 million characters) expect 2.72, 2.45 and 2.39 bits per character, in a
minute, 1.6 and 2.5 minutes of CPU time. Step size and sizes were set beforehand, and not searched.
"""

from ml_collections import ConfigDict


def get_config(data: str = "full") -> ConfigDict:
    """The text, sizes and settings."""
    if data not in ("full", "text", "quick"):
        raise LookupError(f"character_model has the variants full, text and quick, not {data!r}.")
    quick = data == "quick"
    return ConfigDict(
        {
            "data": "text" if data == "text" else "manual",
            "path": "",  # of the text; empty for SHOHYPERNET_TEXT
            "judged": data == "text",  # whether claims get verdicts
            "most_characters": 20_000 if quick else 0,  # of the text that are used; 0 for all
            "seeds": (0,),  # of weights and batches
            "parameters": 3_000 if quick else 100_000,  # of each model at most
            "hyper_features": 4 if quick else 32,  # units of the LSTM inside the HyperLSTM
            "embedding": 2 if quick else 8,  # length of its embeddings
            "sequence": 10 if quick else 64,  # characters that a gradient goes back through
            "batch_size": 4 if quick else 32,
            "steps": 4 if quick else 3_000,
            "learning_rate": 3e-3,  # Adam on a cosine
            "clip": 1.0,  # greatest norm of a gradient
            "evaluations": 2 if quick else 15,  # on the way
            "streams": 4 if quick else 32,  # that the texts are cut into to be evaluated
        }
    )
