"""The contender in TorchOpt, by its implicit differentiation of roots, eager on the CPU."""

import warnings
from typing import Any

import jax
import numpy as np
import torch
from torchopt.diff import implicit
from torchopt.linear_solve import solve_cg

from benchmarks.contenders.implicit import ImplicitContender, Subject


def contender(subject: Subject, iterations: int) -> ImplicitContender:
    """`custom_root` around a solver that returns w at once.

    Weights and decays are flat tuples in the order of the tree: bias, kernel, bias, kernel, …
    """
    params, hyperparams, train, valid = (
        tuple(torch.tensor(np.asarray(leaf)) for leaf in jax.tree.leaves(tree))
        for tree in (subject.params, subject.hyperparams, subject.data.train, subject.data.valid)
    )
    for leaf in hyperparams:
        leaf.requires_grad_()

    def train_loss(params: Any, hyperparams: Any) -> torch.Tensor:
        pairs = zip(hyperparams, params, strict=True)
        penalty = torch.stack([torch.sum(torch.exp(decay) * w**2) for decay, w in pairs])
        return _error(params, *train) + torch.sum(penalty)

    slope = torch.func.grad(train_loss)
    solve = solve_cg(maxiter=iterations, rtol=0.0, atol=0.0)

    @implicit.custom_root(slope, argnums=1, solve=solve)
    def trained(params: Any, hyperparams: Any) -> Any:
        del hyperparams
        return params

    def hypergradient() -> np.ndarray:
        valid_loss = _error(trained(params, hyperparams), *valid)
        with warnings.catch_warnings():
            # It calls functorch by the name that PyTorch has deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            found = torch.autograd.grad(valid_loss, hyperparams)
        return np.concatenate([leaf.numpy().ravel() for leaf in found])

    return ImplicitContender(hypergradient, None)


def _error(params: Any, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    outputs = inputs
    for i in range(0, len(params), 2):
        outputs = (torch.relu(outputs) if i else outputs) @ params[i + 1] + params[i]
    return torch.mean((outputs - targets) ** 2)
