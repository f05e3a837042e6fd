r"""Of our own: predicted losses of one hypernet against trained models, by width and encoding.

python -m experiments.best_response_error --config=configs/best_response_error.py --workdir=DIR

Softmax regression on MNIST with a decay for each of some blocks of pixels, and smoothed labels:

    L_train(w, λ) = CE(w · x, (1 − λ_s) y + λ_s / 10) + Σ_g λ_g ‖w_g‖²,    L_valid(w) = CE(w · x, y)

A hypernet is trained for all λ by the first phase of Algorithm 2, each λ log-uniform over three to
five decades. Then models are trained to convergence at λ that are drawn anew, and the validation
losses of both compared. Each hypernet has the best of three step sizes, in the mean over seeds.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _best_response_error_plot, _launch, _plots, _results
from shohypernet import hypernets
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data, Examples, minibatch
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem

NAME = "best_response_error"
GATED = "gated"  # a hypernet without width
SIDES = {1: 1, 2: 1, 5: 2, 10: 3}  # blocks to a side of the image, by number of hyperparameters


class Trained(NamedTuple):
    """Models trained at held-out λ, leaves with a leading axis of one entry each.

    Attributes:
      hyperparams: λ, unconstrained.
      valid_loss: losses on all validation images.
      slope: norm of the training loss's gradient at the end.
    """

    hyperparams: Any
    valid_loss: np.ndarray
    slope: np.ndarray


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train models, and a hypernet of each kind, for each number of hyperparameters."""
    del resume  # it goes through all again, in minutes
    data = load(config)
    arrays, errors, ranges, spread, slopes = {}, {}, {}, [], []
    for number in config.numbers:
        problem, start = build(number, config)
        print(f"{number} hyperparameters: training {config.held_out} models.", flush=True)
        trained = train_models(problem, start, data, config)
        arrays[f"{number}: trained"] = trained.valid_loss
        spread.append(float(np.std(trained.valid_loss)))
        slopes.append(float(np.max(trained.slope)))
        for name, hypernet in contenders(problem, config).items():
            predicted = predict(problem, start, hypernet, trained.hyperparams, data, config)
            arrays[f"{number}: {name}"] = predicted
            each = error(predicted, trained.valid_loss)
            means = each.mean(axis=1)
            best = each[np.nanargmin(means)]
            errors.setdefault(name, []).append(float(best.mean()))
            ranges.setdefault(name, []).append([float(best.min()), float(best.max())])
            print(f"{number} hyperparameters, {name}: {_shown(means, 4)} nats", flush=True)
    _plots.save_figure(_best_response_error_plot.draw(errors, spread, config), workdir, NAME)
    _results.save_arrays(workdir, NAME, arrays)
    rows = [[name, *(f"{each:.4f}" for each in values)] for name, values in errors.items()]
    rows.append(["spread of the trained", *(f"{each:.4f}" for each in spread)])
    print(_results.table(["mean error, nats", *map(str, config.numbers)], rows))
    return {
        "main": {f"error, {name}": values for name, values in errors.items()},
        "claims": claims(errors, spread, config),
        "ranges": ranges,
        "spread_of_the_trained": spread,
        "largest_slope_of_the_trained": slopes,
    }


def load(config: Any) -> Data:
    """Images of half the size to each side."""
    data = shn.datasets.load(
        config.data,
        train=config.train_examples,
        valid=config.valid_examples,
        test=1,
        directory=config.directory or None,
    )
    rows, columns = IMAGE_SHAPE

    def halved(images: jax.Array) -> jax.Array:
        pairs = images.reshape(-1, rows // 2, 2, columns // 2, 2)
        return pairs.mean((2, 4)).reshape(len(images), -1)

    return Data(*(Examples(halved(split.inputs), split.targets) for split in data))


def build(number: int, config: Any) -> tuple[Problem, Any]:
    """A problem of some number of hyperparameters, and λ in the middle of their ranges."""
    side = SIDES[number]
    rows, columns = (np.arange(pixels // 2) * 2 * side // pixels for pixels in IMAGE_SHAPE)
    block = (rows[:, None] * side + columns).ravel()
    space: dict[str, Any] = {"decay": hp.log(prior=tuple(config.decay))}
    start: dict[str, Any] = {"decay": jnp.full(side**2, np.sqrt(np.prod(config.decay)))}
    if number > 1:
        space["smoothing"] = hp.log(prior=tuple(config.smoothing))
        start["smoothing"] = jnp.float32(np.sqrt(np.prod(config.smoothing)))

    def loss(params: Any, images: jax.Array, targets: jax.Array) -> jax.Array:
        logits = images @ params["kernel"] + params["bias"][None]
        return jnp.mean(optax.softmax_cross_entropy(logits, targets))

    def train_loss(params: Any, hyperparams: Any, batch: Any, key: jax.Array) -> jax.Array:
        del key
        smoothing = hyperparams.get("smoothing", 0.0)
        targets = (1 - smoothing) * batch.targets + smoothing / CLASSES
        squares = jnp.sum(params["kernel"] ** 2, axis=1)
        return loss(params, batch.inputs, targets) + jnp.sum(hyperparams["decay"][block] * squares)

    def valid_loss(params: Any, hyperparams: Any, batch: Any) -> jax.Array:
        del hyperparams
        return loss(params, batch.inputs, batch.targets)

    def init(key: jax.Array) -> Any:
        kernel = config.init_scale * jax.random.normal(key, (len(block), CLASSES))
        return {"kernel": kernel, "bias": jnp.zeros(CLASSES)}

    return Problem(init, train_loss, valid_loss, space), start


def train_models(problem: Problem, start: Any, data: Data, config: Any) -> Trained:
    """Models at λ drawn from p(λ), each trained to convergence on all training images."""
    keys = jax.random.split(jax.random.key(1_000), config.held_out)
    encoded = hp.encode(problem.space, start)
    drawn = jax.vmap(lambda key: hp.sample(key, problem.space, encoded))(keys)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.train_steps))

    @jax.jit
    def one(hyperparams: Any, data: Data) -> tuple[jax.Array, jax.Array]:
        natural, key = hp.decode(problem.space, hyperparams), jax.random.key(0)
        steps = config.train_steps
        params = shn.train(problem, optimizer, key, natural, data.train, steps=steps).params
        gradient = jax.grad(problem.train_loss)(params, natural, data.train, key)
        return problem.valid_loss(params, natural, data.valid), optax.tree.norm(gradient)

    each = [jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i in range(config.held_out)]
    found = np.array([one(hyperparams, data) for hyperparams in each])
    return Trained(drawn, *found.T)


def contenders(problem: Problem, config: Any) -> dict[str, Hypernet]:
    """All hypernets: each encoding at each width, as `NAME WIDTH`, and gates."""
    encodings = hypernets.encodings
    behind = {
        "standardized": encodings.standardized(problem.space),
        "learned bounds": encodings.learned_bounds(problem.space),
        "circular": encodings.circular(problem.space),
    }

    def made(name: str, width: int) -> Hypernet:
        if name == "paper":
            return hypernets.mlp((width,), init_scale=hypernets.PAPER_INIT_SCALE)
        plain = hypernets.mlp((width,))
        return hypernets.encoded(plain, behind[name]) if name in behind else plain

    every = {
        f"{name} {width}": made(name, width) for name in config.encodings for width in config.widths
    }
    return every | {GATED: hypernets.encoded(hypernets.gated(), behind["standardized"])}


def predict(
    problem: Problem, start: Any, hypernet: Hypernet, hyperparams: Any, data: Data, config: Any
) -> np.ndarray:
    """Validation losses at H λ of the weights that trained hypernets give.

    Shape (R, S, H), by step size and seed.

    The rounds of `fit`, without its evaluations: compiling these would take longer than the rounds.
    """
    encoded = hp.encode(problem.space, start)
    falling = optax.cosine_decay_schedule(1.0, config.steps)

    @jax.jit
    def losses(rate: jax.Array, seed: jax.Array, hyperparams: Any, data: Data) -> jax.Array:
        method = shn.global_response(
            problem,
            hypernet,
            hypernet_optimizer=optax.adam(lambda step: rate * falling(step)),
            hyper_optimizer=optax.identity(),
            sampler=shn.samplers.prior(problem.space),
            hypernet_rounds=1,  # which is all
            samples=config.samples,
        )
        key_init, key_batch, key_step = jax.random.split(jax.random.key(seed), 3)
        state = method.init(key_init, encoded)
        batches = minibatch(key_batch, data.train, (config.steps, config.batch_size))
        state, _ = method.step(key_step, state, batches, data.valid)

        def at(hyperparams: Any) -> jax.Array:
            params = hypernet.apply(state.hypernet_params, hyperparams)
            return problem.valid_loss(params, hyperparams, data.valid)

        return jax.lax.map(at, hyperparams)

    return np.array(
        [
            [losses(jnp.float32(rate), seed, hyperparams, data) for seed in config.seeds]
            for rate in config.hypernet_learning_rates
        ]
    )


def error(predicted: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the losses over the held-out λ, the last axis."""
    return np.mean(np.abs(predicted - trained), axis=-1)


def claims(
    errors: dict[str, list[float]], spread: list[float], config: Any
) -> list[dict[str, Any]]:
    """Claims about the errors, by hypernet a list by number of hyperparameters."""
    narrow, wide = min(config.widths), max(config.widths)
    most = np.max(np.divide(errors[f"standardized {wide}"], spread))
    falls = {
        name: np.divide(errors[f"{name} {wide}"], errors[f"{name} {narrow}"])
        for name in config.encodings
    }
    start = np.divide(errors[f"standardized {wide}"], errors[f"paper {wide}"])
    shown = "; ".join(f"{name} {_shown(each)}" for name, each in falls.items())
    return [
        _results.claim(
            "One hypernet of standardized λ predicts trained models' losses within a tenth of "
            "their spread, up to ten hyperparameters.",
            f"at worst {most:.1%} of it",
            holds=bool(most <= 0.1),
        ),
        _results.claim(
            f"{wide} hidden units predict better than {narrow}, with every encoding.",
            f"ratios of their errors, by number of hyperparameters: {shown}",
            holds=all(bool(np.all(each < 1)) for each in falls.values()),
        ),
        _results.claim(
            f"Standardized λ and a start at the model's weights beat the paper's start, {wide} "
            "hidden units.",
            f"ratios of their errors, by number of hyperparameters: {_shown(start)}",
            holds=bool(np.all(start < 1)),
        ),
    ]


def _shown(values: np.ndarray, digits: int = 2) -> str:
    return ", ".join(f"{each:.{digits}f}" for each in values)


if __name__ == "__main__":
    _launch.main(run)
