"""Runs over conditional spaces: programs, refusals, trials to begin with, and resuming."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from searching import Killed, assert_equal, killed

from shohypernet import Problem
from shohypernet import hyperparameters as hp
from shohypernet.inner_loop import TrainState
from shohypernet.search import (
    Asker,
    Proposal,
    Search,
    _static,
    bayesian,
    grid_search,
    random_search,
    run,
)
from shohypernet.search._checks import require_consistent
from shohypernet.search._first import queued_first
from shohypernet.search._identity import differences, identity
from shohypernet.search._populations import Outcome
from shohypernet.search._static import Variants

KIND = hp.categorical("sgd", "adam")
NETWORKS = {
    "kind": KIND,
    "depth": hp.integer(1, 3),
    "second": hp.conditional(hp.categorical(4, 8, 16), depth=(2, 3)),
    "third": hp.conditional(hp.categorical(4, 8), depth=3),
}
MOMENTUM = hp.conditional(hp.bounded(0.0, 0.8), kind="sgd")


def form(space):
    return dict.fromkeys(space, np.zeros((), np.float32))


class Counted:
    """In place of `Populations`: counts the programs, and finds a loss of 0."""

    made = 0
    compile_seconds = 0.0

    def __init__(self, *arguments):
        Counted.made += 1

    def run(self, jobs, steps, **options):
        states = [TrainState(np.zeros(()), (), ()) for _ in jobs[0].states]
        return [Outcome(states, np.zeros(len(states)), np.zeros(len(states)))]


def of_static(space=None, reads=lambda hyperparams: 0.0):
    def build(choices):
        return Problem(
            lambda key: jnp.ones(()),
            lambda w, hyperparams, batch, key: (w - reads(hyperparams)) ** 2 + 0 * jnp.mean(batch),
            lambda w, hyperparams, batch: w**2 + 0 * jnp.mean(batch),
            space=space or {},
        )

    return build


def test_programs_that_differ_in_what_is_inactive_are_one(data, monkeypatch):
    """By hand: 1 + 3 + 3 · 2 networks, of 6 · 3 · 2 by the product; 2 kinds."""
    monkeypatch.setattr(_static, "Populations", Counted)
    monkeypatch.setattr(Counted, "made", 0)
    result = run(
        of_static(),
        grid_search(points=3, steps=1),
        data,
        optimizer=optax.sgd(0.1),
        budget=99,
        static=NETWORKS,
    )
    assert len(result.measured.trial) == Counted.made == 20


def test_only_what_differs_counts_against_the_most_programs(data):
    """Two widths of which one is there: 6 + 5 of the 36, for their constants are the same."""
    six = hp.categorical(*range(6))
    static = {f"width {kind}": hp.conditional(six, kind=kind) for kind in ("sgd", "adam")}

    def variants(space, static):
        build = of_static(space, lambda hyperparams: hyperparams.get("kind", 0))
        return Variants(build, optax.sgd(0.1), None, static)

    kind = {"kind": KIND}
    codes = {tuple(codes) for codes in itertools.product(range(6), [3])}
    codes |= {tuple(codes) for codes in itertools.product([3], range(6))}
    assert set(variants(kind, static)._active) == codes
    # Where the kind is static too, it tells them apart.
    assert len(list(variants({}, kind | static).all())) == 12
    with pytest.raises(ValueError, match="combine to 40 programs"):
        variants({}, {"depth": hp.integer(1, 2), "w": hp.conditional(hp.integer(1, 39), depth=2)})


def untraced(*arguments):
    raise AssertionError("traced")


@pytest.mark.parametrize(
    ("space", "like", "static", "message"),
    [
        ({}, {}, {"width": hp.conditional(hp.integer(1, 3), kin=1)}, "conditional on 'kin'"),
        ({"a": hp.conditional(hp.log(), kinds="x")}, {"kinds": np.zeros(2)}, {}, r"shapes \(2,\)"),
        (
            {"a": hp.conditional(hp.integer(1, 2), kind="adam")},
            {},
            {"b": hp.conditional(hp.integer(1, 2), a=1, kind="sgd"), "kind": KIND},
            r"hyperparameters \['b'\] are active nowhere",
        ),
    ],
    ids=["unknown", "array", "never"],
)
def test_what_cannot_be_met_is_refused_before_anything_is_traced(
    data, space, like, static, message
):
    if "kinds" in like:
        space = {**space, "kinds": hp.categorical("x", "y")}
    problem = Problem(untraced, untraced, untraced, space=space)
    like = {**form(space), **like}
    with pytest.raises(ValueError, match=message):
        run(
            problem,
            random_search(steps=1),
            data,
            like,
            optimizer=optax.sgd(0.1),
            budget=9,
            static=static,
        )


def read(data, **reads):
    """Whether a momentum that is there for SGD is read, by the optimizer of each kind."""
    space = {"momentum": MOMENTUM}

    def optimizer(hyperparams):
        momentum = hyperparams["momentum"] if reads[hyperparams["kind"]] else 0.9
        return optax.sgd(0.1, momentum)

    variants = Variants(of_static(space), optimizer, None, {"kind": KIND})
    require_consistent(variants, form(space), data)


def test_what_is_not_read_where_it_is_active_is_refused(data):
    read(data, sgd=True, adam=False)
    for adam in (True, False):
        with pytest.raises(
            ValueError, match=r"momentum enters neither loss, nor .* where it is act"
        ):
            read(data, sgd=False, adam=adam)


def test_trials_to_begin_with_need_no_inactive_values():
    space = {"kind": KIND, "momentum": MOMENTUM, "rate": hp.log()}
    absent = {"kind": "adam", "rate": 1e-3}
    given = [absent, {**absent, "momentum": None}, {**absent, "momentum": 0.3}]
    given += [{**absent, "momentum": 0.0}]  # the bound, which a search couldn't try
    queue = queued_first(space, form(space), [*given, {**absent, "kind": "sgd", "momentum": 0.3}])
    momentum = hp.decode(space["momentum"], queue["momentum"])
    np.testing.assert_allclose(momentum, [0.4] * 4 + [0.3], rtol=1e-6)
    assert len(set(queue["momentum"][:4].tolist())) == 1
    with pytest.raises(ValueError, match="a trial without momentum, active at its other values"):
        queued_first(space, form(space), [{"kind": "sgd", "rate": 1e-3}])
    with pytest.raises(ValueError, match="doesn't fit hyperparameters"):
        queued_first(space, form(space), [{"kind": "adam"}])


def test_another_condition_is_another_search(data):
    def described(kind):
        space = {"momentum": hp.conditional(hp.bounded(0.0, 0.8), kind=kind)}
        build = of_static(space, lambda hyperparams: hyperparams["momentum"])
        variants = Variants(build, optax.sgd(0.1), None, {"kind": KIND})
        like = form({**space, "kind": None})
        return identity(variants, like, data, steps=1)

    (line,) = differences(described("sgd"), described(["sgd", "adam"]))
    assert line.startswith(
        "space.momentum: was Conditional(spec=Bounded(low=0.0, high=0.8), where="
    )
    assert not differences(described("sgd"), described(["sgd"]))


@pytest.fixture(scope="module")
def traced():
    """Two kinds of which one has a target: w goes half-way there, or half-way to 1."""

    def target(hyperparams):
        return jnp.where(hyperparams["kind"] == 0, hyperparams["target"], 1.0)

    return Problem(
        lambda key: jnp.zeros(()),
        lambda w, hyperparams, batch, key: (w - target(hyperparams)) ** 2 / 2 + 0 * jnp.mean(batch),
        lambda w, hyperparams, batch: (w - 0.2) ** 2 + 0 * jnp.mean(batch),
        space={
            "kind": hp.categorical("free", "one"),
            "target": hp.conditional(hp.bounded(0.0, 1.0), kind="free"),
        },
    )


def test_a_search_that_died_goes_on_as_if_it_had_not(search, traced, tmp_path):
    options = {"problem": traced, "hyperparams": {"kind": 0.0, "target": 0.5}, "budget": 7}
    options |= {"optimizer": optax.sgd(0.5), "batch_size": None, "first": [{"kind": "one"}]}
    method = bayesian(steps=1, initial=5)
    whole = search(method, **options)
    there = {"workdir": tmp_path, "checkpoint_every": 1, **options}
    with pytest.raises(Killed):
        search(killed(method, 1), **there)
    assert_equal(search(method, resume=True, **there), whole)
    values = hp.decode(traced.space, jax.tree.map(jnp.asarray, whole.measured.unconstrained))
    ends = np.where(values["kind"] == 0, values["target"], 1.0) / 2
    np.testing.assert_allclose(whole.measured.valid_loss, (ends - 0.2) ** 2, rtol=1e-4, atol=1e-7)
    assert len(set(values["target"][np.asarray(values["kind"]) == 1].tolist())) == 1


def test_a_search_of_ones_own_needs_to_know_nothing_of_conditions(search, traced):
    def ask(key, turn):
        drawn = {"kind": np.float32([0, 1]), "target": np.float32([0.6, 0.8])}
        return turn + 1, Proposal(np.arange(2), drawn, 1)

    method = Search(lambda *_: Asker(lambda key: 0, ask, lambda turn, *_: turn), 1)
    options = {"hyperparams": {"kind": 0.0, "target": 0.5}, "batch_size": None, "budget": 2}
    result = search(method, problem=traced, optimizer=optax.sgd(0.5), **options)
    # λ 0.6 is sigmoid(0.6), and the middle is a half.
    found = result.measured.hyperparams["target"]
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-0.6)), 0.5], rtol=1e-6)
