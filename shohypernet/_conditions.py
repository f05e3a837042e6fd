"""Conditions of a space: which hyperparameters are active, by the choices of others.

    a_i = Π_{j ∈ parents(i)} a_j [λ_j ∈ C_ij],    λ_i = F_i⁻¹(½)  where a_i = 0

C_ij are the choices of hyperparameter j under which i is active, F_i is the distribution function
of its prior. So an inactive hyperparameter is a constant, the middle of its prior, and λ keeps its
structure.
"""

import dataclasses
import graphlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal.trees import path_name
from shohypernet._internal.validation import require
from shohypernet._specs import Spec
from shohypernet.types import Hyperparams, Key, Space


@dataclasses.dataclass(frozen=True)
class Conditional(Spec):
    """A spec that holds where other hyperparameters have certain choices.

    Attributes:
      spec: the spec of its values, no conditional one.
      where: names of the others, each with a choice, or with a tuple of choices.
    """

    spec: Spec
    where: tuple[tuple[str, Any], ...]
    kind = "conditional"
    differentiable = False

    @property
    def bare(self) -> Spec:
        return self.spec

    @property
    def bounds(self) -> tuple[float, float]:
        return self.spec.bounds

    def decode(self, unconstrained: Any) -> jax.Array:
        return self.spec.decode(unconstrained)

    def encode(self, value: Any) -> jax.Array:
        return self.spec.encode(value)

    def holds(self, value: Any) -> bool:
        return self.spec.holds(value)

    def sample(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return self.spec.sample(key, shape)

    def quantile(self, unit: Any) -> jax.Array:
        return self.spec.quantile(unit)

    def cdf(self, unconstrained: Any) -> jax.Array:
        return self.spec.cdf(unconstrained)


def conditional(spec: Any, where: Mapping[str, Any]) -> Conditional:
    """See `hyperparameters.conditional`."""
    if not isinstance(spec, Spec):
        raise TypeError(
            f"conditional() needs a spec first, such as bounded(0.0, 0.99), got {spec!r}."
        )
    require(bool(where), "conditional() needs a condition, such as kind='sgd'.")
    for name, choices in where.items():
        some = not isinstance(choices, list | tuple | range) or len(choices) > 0
        require(some, f"conditional() needs a choice of {name} or more, got {choices}.")
    named = tuple(
        (name, tuple(choices) if isinstance(choices, list | range) else choices)
        for name, choices in where.items()
    )
    return Conditional(spec.bare, _where(spec) + named)


class Conditions(NamedTuple):
    """The conditions of a space, by the numbers of its specs.

    Attributes:
      names: paths of the specs.
      specs: the specs.
      needs: of each the numbers of those that it is conditional on, with codes that they may have.
      order: all numbers, each after those that it is conditional on.
    """

    names: list[str]
    specs: list[Spec]
    needs: list[list[tuple[int, np.ndarray]]]
    order: list[int]

    @property
    def some(self) -> bool:
        """Whether there are any conditions."""
        return any(self.needs)

    def active(self, code: Callable[[int], Any]) -> list[Any]:
        """Whether each is active: True, or an array of booleans in the shape of the codes.

        Args:
          code: from the number of one that others are conditional on to its codes, an array.
        """
        masks: list[Any] = [True] * len(self.specs)
        for i in self.order:
            for parent, codes in self.needs[i]:
                there = code(parent)[..., None]
                holds = (there == codes.reshape((1,) * (there.ndim - 1) + (-1,))).any(-1)
                masks[i] = masks[i] & masks[parent] & holds
        return masks


def resolve(space: Space) -> Conditions:
    """The conditions of a space.

    Raises:
      ValueError: for a condition on no hyperparameter of the space, on one that is neither integer
        nor category, or on a choice that it doesn't have; and for conditions in a circle.
    """
    named = jax.tree.leaves_with_path(space)
    names = [path_name(path) for path, _ in named]
    specs = [spec for _, spec in named]
    needs = [
        [_need(name, parent, choices, names, specs) for parent, choices in _where(spec)]
        for name, spec in zip(names, specs, strict=True)
    ]
    parents = {i: [parent for parent, _ in need] for i, need in enumerate(needs)}
    try:
        order = list(graphlib.TopologicalSorter(parents).static_order())
    except graphlib.CycleError as error:
        circle = ", ".join(names[i] for i in dict.fromkeys(error.args[1]))
        raise ValueError(
            f"the conditions of {circle} go round in a circle, so that none can be drawn first; "
            "let one of them have no condition on the others."
        ) from None
    return Conditions(names, specs, needs, order)


def _where(spec: Spec) -> tuple[tuple[str, Any], ...]:
    return spec.where if isinstance(spec, Conditional) else ()


def _need(
    name: str, parent: str, wanted: Any, names: list[str], specs: list[Spec]
) -> tuple[int, np.ndarray]:
    """Number of a hyperparameter that another is conditional on, and the codes that it may have."""
    require(
        parent in names and parent != "",
        f"hyperparameter {name} is conditional on {parent!r}, but the space has only "
        f"{', '.join(names)}; name one of these, by its path, or add {parent!r} to the space or to "
        "static=...",
    )
    number = names.index(parent)
    spec = specs[number].bare
    require(
        not spec.differentiable,
        f"hyperparameter {name} is conditional on {parent}, a {spec.kind}(); conditions are on "
        "categorical() or integer() hyperparameters.",
    )
    low, high = map(int, spec.bounds)
    choices: Any = spec.choices or range(low, high + 1)
    several = wanted if isinstance(wanted, tuple) and wanted not in choices else (wanted,)
    lacking = [choice for choice in several if choice not in choices]
    shown = ", ".join(map(repr, choices)) if spec.choices else f"{low} to {high}"
    require(
        not lacking,
        f"hyperparameter {name} is conditional on {parent} being "
        f"{' or '.join(map(repr, lacking))}, which it never is; its choices are {shown}.",
    )
    return number, low + np.array([choices.index(choice) for choice in several])


def require_single(space: Space, like: Hyperparams) -> None:
    """Refuse conditions on arrays.

    Raises:
      ValueError: naming the hyperparameters and the array's shape.
    """
    found, below = resolve(space), _below(space, like)
    for name, needs in zip(found.names, found.needs, strict=True):
        for parent, _ in needs:
            single = jax.tree_util.all_leaves([below[parent]]) and np.shape(below[parent]) == ()
            require(
                single,
                f"hyperparameter {name} is conditional on {found.names[parent]}, which has shapes "
                f"{jax.tree.map(np.shape, below[parent])}; conditions are on single ones.",
            )


def middle(spec: Spec) -> jax.Array:
    """Middle of a prior, unconstrained: an inactive hyperparameter's constant, scalar."""
    with jax.ensure_compile_time_eval():  # alike, to the bit, in compiled draws and outside
        return spec.quantile(jnp.asarray(0.5, jnp.result_type(float)))


def active(space: Space, hyperparams: Hyperparams) -> Any:
    """Whether hyperparameters, unconstrained, are active: a tree like theirs of booleans."""
    return _mapped(space, hyperparams, lambda spec, mask, leaf: mask)


def project(space: Space, hyperparams: Hyperparams) -> Hyperparams:
    """Hyperparameters, unconstrained, leaves (...) or (P, ...), with inactive ones constant."""
    if not resolve(space).some:
        return hyperparams
    return _mapped(space, hyperparams, lambda spec, mask, leaf: jnp.where(mask, leaf, middle(spec)))


def _mapped(space: Space, hyperparams: Hyperparams, function: Callable[..., Any]) -> Any:
    """`function(spec, whether active, leaf)` of each leaf, the latter two of the same shape."""
    found, below = resolve(space), _below(space, hyperparams)
    masks = found.active(lambda j: found.specs[j].decode(jnp.asarray(below[j])))

    def mapped(spec: Spec, mask: Any, leaf: Any) -> Any:
        mask, shape = jnp.asarray(mask), jnp.shape(leaf)
        mask = jnp.reshape(mask, mask.shape + (1,) * (len(shape) - mask.ndim))
        return function(spec, jnp.broadcast_to(mask, shape), leaf)

    parts = [
        jax.tree.map(lambda leaf, spec=spec, mask=mask: mapped(spec, mask, leaf), part)
        for spec, mask, part in zip(found.specs, masks, below, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(space), parts)


def active_values(space: Space, values: Hyperparams) -> Any:
    """Whether the hyperparameters of each spec are active, by one λ in natural units.

    Returns:
      A tree like the space of booleans.
    """
    found, below = resolve(space), _below(space, values)
    masks = found.active(lambda j: found.specs[j].encode(below[j]))
    return jax.tree.unflatten(jax.tree.structure(space), map(bool, masks))


def as_text(space: Space) -> Space:
    """The same space with choices as text, those of conditions too, which files can hold."""
    found = resolve(space)
    texts = [spec.bare.as_text() for spec in found.specs]
    for i, needs in enumerate(found.needs):
        if needs:
            where = [
                (found.names[j], tuple(_choice(found.specs[j].bare.as_text(), c) for c in codes))
                for j, codes in needs
            ]
            texts[i] = Conditional(texts[i], tuple(where))
    return jax.tree.unflatten(jax.tree.structure(space), texts)


def _choice(spec: Spec, code: int) -> Any:
    return spec.choices[code] if spec.choices else int(code)


def _below(space: Space, tree: Any) -> list[Any]:
    """The part of a tree that each spec stands for."""
    return jax.tree.structure(space).flatten_up_to(tree)
