"""Seven hyperparameters of an LSTM on characters, tuned in one run by self_tuning and by searches.

After the set-up of arXiv:1903.03088 on words, at a small size. A text so short that two layers of
80 units learn it by heart, which makes regularization count. Each method's choice is trained again
on training and validation text together, and only then tested. The searches get `budget` times the
gradient evaluations of the tuning.

    python -m experiments.self_tuning_text --config=configs/self_tuning_text.py:text \\
      --config.path=tinyshakespeare.txt --workdir=DIR

`:text` takes a text of yours, from the file that `--config.path` or the environment variable
SHOHYPERNET_TEXT names. The default, `:full`, is Python's own language reference, as `help()` has
it, of which no claim is judged, for each release of Python has another. The first nine tenths
train, or so many characters of them, then half of the rest validates and half tests.

Settings are those of `self_tuning`, and were not searched.
"""

from ml_collections import ConfigDict


def get_config(data: str = "full") -> ConfigDict:
    """The text, sizes and settings."""
    if data not in ("full", "text", "quick"):
        raise LookupError(f"self_tuning_text has the variants full, text and quick, not {data!r}.")
    quick = data == "quick"
    return ConfigDict(
        {
            "data": "text" if data == "text" else "manual",
            "path": "",  # of the text; empty for SHOHYPERNET_TEXT
            "judged": data == "text",  # whether claims get verdicts
            "most_characters": 5_000 if quick else 0,  # of the text that are used; 0 for all
            "train_characters": 2_000 if quick else 100_000,  # at most
            "seeds": (0, 1) if quick else (0,),
            "embedding": 4 if quick else 32,  # length of a character's embedding
            "units": 4 if quick else 80,  # of each layer
            "layers": 1 if quick else 2,
            "sequence": 10 if quick else 64,  # characters, from a state of zeros
            "batch_size": 8 if quick else 32,  # sequences
            "learning_rate": 1e-2,  # Adam on a cosine, for all networks
            "clip": 1.0,  # greatest norm of a gradient
            "train_steps": 4 if quick else 1_200,  # of an inner run of a search
            "train_again_steps": 4 if quick else 1_800,  # of what is tested
            "searches": ("random search",) if quick else ("random search", "TPE"),
            "budget": 1.0 if quick else 10.0,  # in gradient evaluations of the tuning
            # Self-tuning.
            "rounds": 2 if quick else 240,  # updates of λ
            "inner_steps": 5,  # updates of the weights in a round
            "valid_batch_size": 8 if quick else 32,
            "warmup_rounds": 1 if quick else 20,  # in which λ stands still
            "evaluations": 2 if quick else 20,  # of the losses, on the way
            "examples_per_draw": 4,  # of λ: its weights are dropped for all of them together
            "response_learning_rate": 1e-3,  # Adam
            "hyper_learning_rate": 0.03,  # RMSprop
            "scale": 1.0,  # σ of the λ of each draw, at first
            "entropy_weight": 1e-3,  # τ, which keeps σ from going to 0
        }
    )
