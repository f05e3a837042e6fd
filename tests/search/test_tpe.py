"""Searches through Optuna against Optuna itself, and a study that processes share and survive."""

import signal
import subprocess
import sys

import jax
import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from scipy.stats import qmc
from searching import answered

from shohypernet import hyperparameters as hp
from shohypernet.search import optuna_search, tpe
from shohypernet.search._optuna_study import opened

SPACE = {
    "decay": hp.log(1e-4, 1.0),
    "drop": hp.bounded(0.0, 0.8),
    "layers": hp.integer(1, 4),
    "act": hp.categorical("relu", "tanh"),
    "bias": hp.real(1.0, 2.0),
}
LIKE = {**dict.fromkeys(SPACE, np.zeros(())), "decay": np.zeros(2)}


def loss(values):
    decades = np.log10(np.asarray(values["decay"])) + 2
    others = np.asarray(values["layers"]) + np.asarray(values["act"]) + np.asarray(values["drop"])
    return np.sum(decades**2, axis=1) + others


def proposed(method, turns, seed=0):
    """Proposals of a search of SPACE that is told `loss`, and its study."""
    proposals, state = answered(
        method, SPACE, LIKE, turns, lambda codes: loss(hp.decode(SPACE, codes)), seed
    )
    return proposals, state.study.optuna


def test_proposals_are_the_samplers_own():
    """Another study with the same past, and a sampler of the same seed, suggests the same."""
    seeds = []

    def sampler(seed):
        seeds.append(seed)
        return optuna.samplers.TPESampler(seed=seed)

    _, study = proposed(optuna_search(sampler, steps=1, population=3), 6)
    trials = study.get_trials()
    seeds = list(dict.fromkeys(seeds))  # in order, once a trial
    assert len(seeds) == len(trials) == 18
    for number in (0, 15):  # before and after the sampler's startup
        oracle = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seeds[number]))
        oracle.add_trials(trials[:number])
        assert oracle.ask(trials[number].distributions).params == trials[number].params


def test_what_is_trained_is_what_the_study_holds():
    proposals, study = proposed(tpe(steps=4, population=5), 4)
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(20))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    values = jax.tree.map(
        lambda *leaves: np.concatenate(leaves),
        *[hp.decode(SPACE, each.hyperparams) for each in proposals],
    )
    for i, trial in enumerate(trials):
        assert trial.params["layers"] == values["layers"][i]
        assert trial.params["act"] == values["act"][i]
        for name in ("decay[0]", "decay[1]", "drop", "bias"):
            leaf = values["decay"][:, int(name[6])] if "[" in name else values[name]
            np.testing.assert_allclose(trial.params[name], leaf[i], rtol=1e-4, atol=1e-6)
    assert study.user_attrs["choices"] == {"act": ["relu", "tanh"]}
    np.testing.assert_allclose([trial.value for trial in trials], loss(values))
    assert {each.steps for each in proposals} == {4}


@pytest.mark.filterwarnings("ignore:QMCSampler is experimental")
def test_other_samplers_serve_as_well():
    """Halton's sequence, which SciPy has too, from Optuna's second trial on."""

    def sampler(seed):
        return optuna.samplers.QMCSampler(qmc_type="halton", scramble=False, seed=0)

    space = [hp.bounded(-1.0, 3.0), hp.log(1e-2, 1.0)]
    method = optuna_search(sampler, steps=1, population=9).bind(space, [np.zeros(())] * 2)
    state, _ = method.ask(jax.random.key(0), method.init(jax.random.key(0)))
    params = [list(trial.params.values()) for trial in state.study.optuna.get_trials()[1:]]
    expected = qmc.scale(qmc.Halton(2, scramble=False).random(8), [-1, -2], [3, 0])
    found = np.array(params)
    np.testing.assert_allclose(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(np.log10(found[:, 1]), expected[:, 1], atol=1e-12)


def test_runs_repeat_themselves_and_seeds_differ():
    first, again, other = (proposed(tpe(steps=1, population=4), 4, seed)[1] for seed in (0, 0, 1))
    values = [[trial.value for trial in study.get_trials()] for study in (first, again, other)]
    assert values[0] == values[1]
    assert not set(values[0]) & set(values[2])


def test_a_search_ends_after_its_trials_of_which_those_that_were_not_trained_fail():
    method = tpe(steps=1, population=4, trials=6).bind(SPACE, LIKE)
    state, sizes = method.init(jax.random.key(0)), []
    for turn in range(10):
        state, proposal = method.ask(jax.random.key(turn), state)
        if proposal is None:
            break
        sizes.append(len(proposal.trials))
        losses = loss(hp.decode(SPACE, proposal.hyperparams))
        if turn == 0:
            losses[:2] = np.inf, np.nan
        state = method.tell(state, proposal, losses)
    # One that diverged was run, one that the budget didn't allow is made up for.
    assert sizes == [4, 3]
    trials = state.study.optuna.get_trials()
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 6
    assert trials[0].value == np.inf
    assert trials[1].state == TrialState.FAIL


def test_samplers_learn_where_trials_diverge():
    """Half of the prior diverges, and the least losses lie next to it.

    Random search would have 20 of any 40 trials diverge.
    """
    space = hp.log(1e-3, 1e3)
    for seed in range(3):
        values = []

        def loss(codes, values=values):
            decades = np.log10(np.asarray(hp.decode(space, codes)))
            values.extend(decades)
            return np.where(decades > 0, np.inf, -decades)

        answered(tpe(steps=1), space, np.zeros(()), 60, loss, seed)
        assert np.sum(np.array(values[20:]) > 0) < 20


@pytest.mark.parametrize("name", ["steps", "population", "trials", "heartbeat"])
def test_bad_sizes_are_refused(name):
    with pytest.raises(ValueError, match=rf"optuna_search\(\) needs {name} to be"):
        tpe(**({"steps": 1} | {name: 0}))


def _square(x):
    return x**2


@pytest.mark.parametrize(
    ("choices", "labels"),
    [
        (("relu", "tanh"), ["relu", "tanh"]),
        ((1, "1"), ["0: 1", "1: 1"]),
        ((None, "None", 2), ["0: None", "1: None", "2: 2"]),
        ((_square, jax.nn.relu, (64, 64)), ["_square", "relu", "(64, 64)"]),
    ],
)
def test_choices_of_any_kind_are_told_apart(choices, labels):
    """The last choice is the best: TPE must try all, and prefer it."""
    space, tried = hp.categorical(*choices), []

    def loss(codes):
        tried.extend(np.asarray(hp.decode(space, codes)).tolist())
        return -np.asarray(codes)

    _, state = answered(tpe(steps=1), space, np.zeros(()), 25, loss)
    assert set(tried) == set(range(len(choices)))
    assert tried[10:].count(len(choices) - 1) > 15 / len(choices)
    study = state.study.optuna
    assert [trial.params["value"] for trial in study.get_trials()] == tried
    assert study.user_attrs["choices"] == {"value": labels}
    assert hp.describe(space, choices[-1]) == labels[-1]


def test_a_sampler_in_place_of_its_builder_is_recognized():
    with pytest.raises(TypeError, match=r"lambda seed: TPESampler\(seed=seed\)"):
        optuna_search(optuna.samplers.TPESampler(), steps=1)


def test_an_empty_space_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        tpe(steps=1).bind({}, {})


def test_without_optuna_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'shohypernet\[search\]'"):
        tpe(steps=1)


def test_storages_are_urls_paths_or_optunas_own(tmp_path):
    """Any of them can be opened again, and knows a diverged trial."""
    path = tmp_path / "study.db"
    own = JournalStorage(JournalFileBackend(str(tmp_path / "own")))
    for storage in (f"sqlite:///{path}", tmp_path / "journal", own):
        for trials in (2, 4):
            method = tpe(steps=1, trials=trials, storage=storage)
            losses = [np.inf, 1.0] if trials == 2 else [2.0, 3.0]
            _, state = answered(
                method, hp.real(), np.zeros(()), 9, lambda codes, at=losses: [at.pop(0)]
            )
        values = [trial.value for trial in state.study.optuna.get_trials()]
        assert values == [np.inf, 1.0, 2.0, 3.0]
    for wrong, fix in ((path, "sqlite:///"), ("study.db", "is no URL; write storage='sqlite")):
        with pytest.raises(ValueError, match=fix):
            opened(wrong)


# --- a study shared by processes --------------------------------------------------------------

TRIALS = 16
SHARED = """
import os, pathlib, signal, time
import jax, jax.numpy as jnp, numpy as np, optax
from optuna.trial import TrialState
import shohypernet as shn

shn_space = shn.hyperparameters.log(prior=(0.1, 10.0))
method = shn.search.tpe(
    steps=5, population=2, trials=TRIALS, storage=STORAGE, study_name="shared", heartbeat=1
)
"""
# Completes two trials, has four under way when the other process begins, completes two of them once
# the other has some too, and dies with the last two.
VICTIM = """
asker = method.bind(shn_space, np.zeros(3))
first, second = asker.init(jax.random.key(0)), asker.init(jax.random.key(0))
first, proposal = asker.ask(jax.random.key(0), first)
first = asker.tell(first, proposal, np.ones(2))
first, proposal = asker.ask(jax.random.key(0), first)
second, left = asker.ask(jax.random.key(0), second)
print(*left.trials, flush=True)
while sum(t.state == TrialState.COMPLETE for t in first.study.optuna.get_trials()) < 4:
    time.sleep(0.05)
first = asker.tell(first, proposal, np.ones(2))
os.kill(os.getpid(), signal.SIGKILL)
"""
WORKER = """
problem = shn.Problem(
    init=lambda key: jnp.zeros(()),
    train_loss=lambda w, decays, batch, key: (w - decays.sum()) ** 2,
    valid_loss=lambda w, decays, batch: (w - 1.0) ** 2,
    space=shn_space,
)
data = shn.batches.Data(*[jnp.ones((2, 1))] * 3)
result = shn.search.run(
    problem, method, data, np.ones(3), optimizer=optax.sgd(0.1), budget=10_000
)
"""


def test_processes_share_a_study_and_pick_up_what_a_killed_one_left(tmp_path):
    storage = tmp_path / "new" / "study.journal"
    script = SHARED.replace("STORAGE", f"pathlib.Path({str(storage)!r})").replace(
        "TRIALS", str(TRIALS)
    )
    names = {}
    with subprocess.Popen(
        [sys.executable, "-c", script + VICTIM], stdout=subprocess.PIPE, text=True
    ) as victim:
        left = [int(number) for number in victim.stdout.readline().split()]
        exec(script + WORKER, names)  # this process is the other worker
    assert victim.returncode == -signal.SIGKILL
    assert left == [4, 5]

    trials = optuna.load_study(study_name="shared", storage=opened(storage)).get_trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == TRIALS
    # None is doubled, and none is left over.
    assert len({tuple(sorted(trial.params.items())) for trial in complete}) == TRIALS
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.FAIL}
    # On a busy machine a process may be taken for dead, and its trials are done again then too.
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert {trial.number for trial in failed} >= set(left)
    for trial in failed:
        same = [other for other in trials if other.params == trial.params]
        assert trial.number in {other.user_attrs.get("repeats") for other in same}
    # Each worker did some, and this one's own account agrees with the study.
    workers = {trial.user_attrs["worker"] for trial in complete}
    assert len(workers) == 2
    measured = names["result"].measured
    for number, loss in zip(measured.trial, measured.valid_loss, strict=True):
        np.testing.assert_allclose(trials[number].value, loss)
    # Whoever comes late is told that nothing is left to do.
    with pytest.raises(ValueError, match="ended before its first trial"):
        exec(script + WORKER, {})
