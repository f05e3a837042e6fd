"""What the driver refuses, before anything is compiled or written."""

import pathlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from walks import DATA, PROBLEM, START, calm, files, untouchable, walk

from shohypernet import HyperOptimizer, Problem, hypernets, implicit, jacobians, local_response
from shohypernet import hyperparameters as hp
from shohypernet.fitting import fit
from shohypernet.models import MLP
from shohypernet.samplers import local_gaussian
from shohypernet.search import random_search


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"steps": 0}, "steps to be a whole number >= 1, got 0"),
        ({"steps": -2}, "steps to be a whole number >= 1, got -2"),
        ({"steps": 2.0}, "steps to be a whole number >= 1, got 2.0"),
        ({"steps": None}, "steps to be a whole number >= 1, got None"),
        ({"steps": True}, "steps to be a whole number >= 1, got True"),
        ({"inner_steps": 0}, "inner_steps to be a whole number >= 1, got 0"),
        ({"inner_steps": None}, "inner_steps to be a whole number >= 1, got None"),
        ({"train_batch_size": 0}, "train_batch_size to be a whole number >= 1, got 0"),
        ({"valid_batch_size": "8"}, "valid_batch_size to be a whole number >= 1, got '8'"),
        ({"eval_every": 0}, "eval_every to be a whole number >= 1, got 0"),
        ({"seeds_at_once": 0}, "seeds_at_once to be a whole number >= 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every to be a whole number >= 1, got 0"),
        ({"seeds": ()}, r"one seed or more.*got \[\]"),
        ({"seeds": (1, 2, 1)}, r"each once.*got \[1, 2, 1\]"),
        ({"seeds": (0.5,)}, r"whole number.*got \[0.5\]"),
        ({"seeds": (-1,)}, r"from 0 to 4294967295, got \[-1\]"),
        # JAX would take it for another 0.
        ({"seeds": (0, 2**32)}, r"from 0 to 4294967295, got \[0, 4294967296\]"),
        ({"resume": True, "workdir": None}, "only a run that has a workdir"),
        ({"data": DATA._asdict()}, "three splits.*got <class 'dict'>"),
        ({"data": DATA[:2]}, "three splits"),
        ({"data": DATA._replace(valid=())}, r"data.valid need.*have shapes \[\]"),
        ({"data": DATA._replace(test=np.zeros((0, 3)))}, r"data.test need.*\[\(0, 3\)\]"),
        ({"data": DATA._replace(train=(np.zeros(3), np.zeros(4)))}, r"data.train need.*\(4,\)"),
        ({"data": DATA._replace(train=(np.zeros(3), 1.0))}, r"data.train need.*\[\(3,\), \(\)\]"),
        ({"hyperparams": {}}, "needs hyperparameters to start from, got {}"),
        ({"hyperparams": np.nan}, "hyperparameter λ̂ starts as nan, but must be finite"),
        ({"hyperparams": {"a": 1j}}, r"hyperparameter \['a'\] starts as complex64"),
        ({"hyperparams": {"a": jnp.sin}}, r"hyperparameter \['a'\] starts as the function"),
        ({"hyperparams": {"a": np.inf}}, "not strictly inside the range of its real"),
        # The logarithm of a decay, and a decay of 0, which has none.
        ({"hyperparams": np.log(3e-4), "space": hp.log()}, "range of its log.* natural units"),
        (
            {"hyperparams": np.zeros(2), "space": hp.log()},
            "not strictly inside the range of its log",
        ),
        ({"hyperparams": 2.0, "space": hp.bounded(0.0, 1.0)}, "range of its bounded"),
        ({"hyperparams": {"a": 1.0}, "space": {"b": hp.log()}}, "doesn't fit hyperparameters"),
    ],
)
def test_bad_input_is_refused_before_anything_is_traced_or_written(asked, message, tmp_path):
    space = asked.pop("space", hp.UNCONSTRAINED)
    method = HyperOptimizer(untouchable, untouchable, untouchable)
    problem = Problem(untouchable, untouchable, untouchable, space)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        calm(method, **{"problem": problem, "workdir": tmp_path / "run", **asked})
    assert not (tmp_path / "run").exists()


def test_a_start_from_keys_must_be_numbers_too(tmp_path):
    with pytest.raises(ValueError, match=r"hyperparameter \['a'\] starts as complex64"):
        calm(hyperparams=lambda key: {"a": 1j}, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


HYPERNET = {
    "hypernet_optimizer": optax.sgd(0.1),
    "hyper_optimizer": optax.sgd(0.1),
    "sampler": local_gaussian(0.1),
}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (PROBLEM, "needs a HyperOptimizer, got Problem .*; make one"),
        (optax.sgd(0.1), r"an optimizer goes into one, such as shn.implicit\("),
        (hypernets.linear(), "hypernets and Jacobians go into one"),
        (jacobians.kronecker(), "hypernets and Jacobians go into one"),
        (implicit, "got function implicit; call its builder with the problem"),
        (random_search, r"a search is run by shn.search.run\(\)"),
        (3, "got int 3; make one"),
    ],
)
def test_what_is_no_method_is_told_what_is(method, message):
    with pytest.raises(TypeError, match=message):
        fit(PROBLEM, method, DATA, START, steps=1)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (walk(), r"got the method before the problem; write fit\(problem, method, data"),
        (MLP(2), "(?s)needs a shn.Problem, got MLP .* make one of it: shn.supervised"),
        ({"kernel": np.zeros(3)}, "these look like weights"),
    ],
)
def test_what_is_no_problem_is_told_what_is(problem, message):
    with pytest.raises(TypeError, match=message):
        fit(problem, PROBLEM if problem == walk() else walk(), DATA, START, steps=1)


def test_a_method_that_was_built_for_another_problem_is_refused():
    method = local_response(PROBLEM, hypernets.linear(), **HYPERNET)
    again = Problem(*PROBLEM)  # the same functions
    other = PROBLEM._replace(valid_loss=untouchable, space=hp.log())
    message = "built for another problem: valid_loss, space of it differ. Give fit.. the very"
    with pytest.raises(ValueError, match=message):
        calm(method, problem=other)
    with pytest.raises(ValueError, match="data in three splits"):
        calm(method, problem=again, data=None)


@pytest.mark.parametrize(
    ("name", "returned", "came"),
    [
        ("train_loss", lambda batch: batch, r"float32\[4\]"),
        ("valid_loss", lambda batch: batch, r"float32\[2\]"),
        ("train_loss", lambda batch: batch.sum().astype(int), r"int32\[\]"),
        ("valid_loss", lambda batch: None, "None"),
        ("train_loss", lambda batch: (batch.sum(), batch), r"\('float32\[\]', 'float32\[4\]'\)"),
    ],
)
def test_losses_must_be_floating_scalars(name, returned, came, tmp_path):
    if name == "train_loss":
        problem = PROBLEM._replace(train_loss=lambda w, hyperparams, batch, key: returned(batch))
    else:
        problem = PROBLEM._replace(valid_loss=lambda w, hyperparams, batch: returned(batch))
    method = walk()._replace(step=untouchable)
    message = f"problem.{name} must return a floating-point scalar, got {came}"
    with pytest.raises(ValueError, match=message):
        calm(method, problem=problem, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_method_with_the_weights_of_another_model_is_refused(tmp_path):
    method = walk()._replace(weights=lambda state: {"kernel": jnp.ones((3, 5))})
    problem = PROBLEM._replace(init=lambda key: {"kernel": jnp.zeros((3, 2))})
    with pytest.raises(ValueError, match=r"(?s)weights are not like those of .*3, 5.*3, 2"):
        calm(method, problem=problem, workdir=tmp_path / "run")
    stateful = PROBLEM._replace(init=lambda key: (jnp.zeros(()), jnp.zeros(4)), stateful=True)
    with pytest.raises(ValueError, match=r"(?s)model state are not like .*method's: {}\n.*\(4,\)"):
        calm(problem=stateful, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"as JSON can hold it.*PosixPath"):
        calm(workdir=tmp_path / "run", config={"rate": np.float32(0.5), "at": pathlib.Path("here")})
    assert not (tmp_path / "run").exists()


def test_a_workdir_is_refused_before_the_steps_are_traced(tmp_path):
    calm(workdir=tmp_path / "mine")
    before = files(tmp_path)
    method = walk()._replace(step=untouchable)
    (tmp_path / "file").write_text("someone's")
    with pytest.raises(FileExistsError, match=r"already holds a run.*resume=True"):
        calm(method, workdir=tmp_path / "mine")
    with pytest.raises(NotADirectoryError):
        calm(method, workdir=tmp_path / "file" / "below")
    with pytest.raises(FileNotFoundError, match="holds no run to resume"):
        calm(method, workdir=tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").unlink()
    assert files(tmp_path) == before


def test_a_run_that_never_began_leaves_its_workdir_free(tmp_path):
    with pytest.raises(AssertionError, match="traced"):
        calm(walk()._replace(step=untouchable), workdir=tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        calm(workdir=tmp_path, resume=True)
    calm(workdir=tmp_path)
