"""Whether tuning pays, by the only test that counts: trained again on all images.

Decays of a linear model and of a network, as they are set unseen, by five searches at 1, 3 and 10
whole trainings, and by hyper-training: one for each layer or one for each weight, validated by half
of the images or, on folds, by every one. Whatever was found is trained again from new weights on
training and validation images together, as it is and in proportion to 1/n (as the prior of a weight
a decay counts once, however many images there are), and tested on images that nobody has seen.

python -m experiments.does_it_pay --config=configs/does_it_pay.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _results
from experiments._decay_finders import DEFAULT, FOLDED, OURS, everything, found_by_all
from shohypernet.batches import Data, Examples
from shohypernet.datasets import CLASSES
from shohypernet.problem import Problem

NAME = "does_it_pay"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Let everybody find decays for each network, train all again, and compare."""
    data = _decay_problem.load_data(config)
    tested: dict[str, dict[str, dict[str, Any]]] = {}
    for hidden in config.networks:
        widths = tuple(int(width) for width in hidden.split("-") if width)
        network = "-".join(map(str, (data.train.inputs.shape[1], *widths, CLASSES)))
        problem = _problem(data, widths, config)
        again = trainer(problem, everything(data), data.test, config)
        tested[network] = {}
        for found in found_by_all(problem, data, config, workdir / network, resume=resume):
            name = f"{found.kind}, {found.detail}"
            losses, errors = again(found.decays)
            over_n, errors_over_n = again(
                jax.tree.map(lambda decay, share=found.share: share * decay, found.decays)
            )
            tested[network][name] = {
                "evaluations": found.evaluations,
                "seconds": found.seconds,
                "loss": losses,
                "error": errors,
                "loss, over n": over_n,
                "error, over n": errors_over_n,
            }
            print(f"{network}, {name}: {_shown(tested[network][name])}", flush=True)

    _plots.save_figure(draw(tested), workdir, NAME)
    arrays = {
        f"{network}, {name}: {field}": value
        for network, rows in tested.items()
        for name, row in rows.items()
        for field, value in row.items()
    }
    _results.save_arrays(workdir, NAME, arrays)
    return {
        "main": {
            f"test loss, {network}, {name}": float(_better(row).mean())
            for network, rows in tested.items()
            for name, row in rows.items()
        },
        "claims": [claim for network, rows in tested.items() for claim in claims(network, rows)],
        "tested": _results.listed(tested),
    }


def _problem(data: Data, widths: tuple[int, ...], config: Any) -> Problem:
    return _decay_problem.problem_on(
        data,
        widths,
        config.init_scale,
        space=shn.hyperparameters.log(
            prior=(float(np.exp(config.low)), float(np.exp(config.high)))
        ),
        metrics={"accuracy": shn.metrics.accuracy},
    )


def trainer(problem: Problem, examples: Examples, test: Examples, config: Any) -> Any:
    """`again(decays) -> (losses, errors)` of test images, shape (seeds,), errors in percent."""
    settings = config.training
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    assert problem.metrics is not None
    accuracy = problem.metrics["accuracy"]

    @jax.jit
    def again(decays: Any, examples: Any, test: Any) -> Any:
        def one(given: Any) -> Any:
            seed, hyperparams = given
            params = shn.train(
                problem,
                optax.adam(schedule),
                jax.random.key(seed + 1_000),  # weights and minibatches that nobody tuned with
                hyperparams,
                examples,
                steps=settings.steps,
                batch_size=settings.batch_size,
            ).params
            loss = problem.valid_loss(params, hyperparams, test)
            return loss, 100 * (1 - accuracy(params, hyperparams, test))

        return jax.lax.map(one, (jnp.asarray(config.seeds), decays))

    return lambda decays: tuple(map(np.asarray, again(decays, examples, test)))


def _better(row: dict[str, Any]) -> np.ndarray:
    """Test losses by seed, as found or over n, whichever is less in the mean."""
    return min(row["loss"], row["loss, over n"], key=np.mean)


def _shown(row: dict[str, Any]) -> str:
    return (
        f"test loss {row['loss'].mean():.5f}, over n {row['loss, over n'].mean():.5f}; error "
        f"{row['error'].mean():.2f} %, {row['error, over n'].mean():.2f} %; "
        f"{row['evaluations']:,.0f} gradient evaluations, {row['seconds']:.0f} s"
    )


def claims(network: str, rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Claims about test losses after training again on all images."""
    ours = {name: row for name, row in rows.items() if name.startswith(OURS)}
    others = {name: row for name, row in rows.items() if name not in ours and row["evaluations"]}
    best = min(others, key=lambda name: _better(others[name]).mean())

    def against(name: str) -> tuple[str, float, float]:
        gap = _better(rows[name]) - _better(rows[best])
        error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.inf
        text = (
            f"{name} {_better(rows[name]).mean():.5f}; best of all searches ({best}) "
            f"{_better(rows[best]).mean():.5f}; difference {gap.mean():+.5f} ± {error:.5f}"
        )
        return text, gap.mean(), error

    found = []
    if (name := f"{OURS}, by layer") in rows:
        text, gap, error = against(name)
        found.append(
            _results.claim(
                f"{network}: one run for a decay of each layer is no worse than the best of all "
                "searches, of up to ten trainings.",
                text,
                holds=bool(gap <= 2 * error),
            )
        )
    text, gap, error = against(f"{FOLDED}, by weight")
    folded, plain = (_better(rows[f"{kind}, by weight"]).mean() for kind in (FOLDED, OURS))
    return [
        *found,
        _results.claim(
            f"{network}: a decay for each weight pays where every image validates.",
            text,
            holds=bool(gap < -2 * error),
        ),
        _results.claim(
            f"{network}: folds make a decay for each weight better than one validation split does.",
            f"{folded:.5f} against {plain:.5f}",
            holds=bool(folded < plain),
        ),
    ]


def draw(tested: dict[str, dict[str, dict[str, Any]]]) -> Figure:
    """Test losses of each network against the gradient evaluations and seconds of tuning."""
    figure, axes = plt.subplots(
        len(tested), 2, figsize=(10, 3.8 * len(tested) + 1), sharey="row", squeeze=False
    )
    kinds = list(
        dict.fromkeys(name.rpartition(", ")[0] for rows in tested.values() for name in rows)
    )
    looks = {
        kind: {"color": f"C{number}", "marker": "os^vD*Pp"[number % 8], "markersize": 6}
        for number, kind in enumerate(kinds)
    }
    for panels, (network, rows) in zip(axes, tested.items(), strict=True):
        for panel, cost in zip(panels, ("evaluations", "seconds"), strict=True):
            for kind in kinds:
                mine = {
                    name.rpartition(", ")[2]: row
                    for name, row in rows.items()
                    if name.rpartition(", ")[0] == kind
                }
                losses = np.array([_better(row) for row in mine.values()])
                if kind == DEFAULT:
                    panel.axhline(losses.mean(), color="0.4", linestyle=":", label=kind)
                    continue
                spread = np.abs(losses.mean(1) - np.array([losses.min(1), losses.max(1)]))
                at = [row[cost] for row in mine.values()]
                look = looks[kind] | {"linestyle": "none" if kind in (OURS, FOLDED) else "-"}
                panel.errorbar(at, losses.mean(1), spread, label=kind, **look)
                if kind in (OURS, FOLDED):
                    # Above and below, for both grains may lie on one point.
                    for i, x in enumerate(at):
                        offset = (5, 4) if i else (5, -11)
                        panel.annotate(
                            list(mine)[i],
                            (x, losses[i].mean()),
                            xytext=offset,
                            textcoords="offset points",
                            fontsize=8,
                        )
            panel.set(xscale="log")
            panel.xaxis.set_minor_formatter(NullFormatter())
        panels[0].set_ylabel(f"test loss, trained on all, {network}")
    axes[-1, 0].set_xlabel("gradient evaluations of tuning, per seed")
    axes[-1, 1].set_xlabel("seconds of tuning, all seeds")
    _plots.legend_below(figure, axes[0, 0], columns=4)
    return figure


if __name__ == "__main__":
    _launch.main(run)
