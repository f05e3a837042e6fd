"""What each of 64 devices holds and sends, by mesh axis: programs that are compiled and never run.

    python -m benchmarks.partition [--devices=64] [--weights=4806656]

takes some minutes and little memory, on any CPU: the partitioner needs the shapes of arrays only.
The run is Algorithm 3 by `fit` with one decay for each weight of a dense layer and the paper's
hypernet of rank 10, whose φ has 21 numbers for each, 10⁸ here.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from benchmarks import _cli as cli
from benchmarks import _collectives as collectives
from benchmarks import _machine as machine
from benchmarks.contenders import growth
from shohypernet._internal import sharding
from shohypernet.batches import Data, Examples
from shohypernet.fitting import _plan as plans
from shohypernet.fitting import _programs as programs

STEPS = 97  # of a chunk: a trip count that no other loop has
WEIGHTS = 2048 * 2347  # such that 64 devices share each large array evenly
IN_HASTE = {"xla_backend_optimization_level": 0}  # machine code that won't run
EXAMPLES = 100  # of a minibatch, for each device


class Share(NamedTuple):
    """What a device has of a run.

    Attributes:
      mesh: its axes and sizes.
      arguments: bytes of state, best state and data.
      total: bytes of these, results and temporaries.
      messages: number of collectives and bytes that it sends in each step, by kind.
    """

    mesh: dict[str, int]
    arguments: int
    total: int
    messages: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        """A line of the table."""
        names = " × ".join(f"{name} {size}" for name, size in self.mesh.items()) or "one device"
        kinds = ", ".join(
            f"{count:.0f} {kind} {sent / 1e6:.3g}" for kind, (count, sent) in self.messages.items()
        )
        sent = sum(sent for _, sent in self.messages.values())
        held = f"{self.arguments / 1e9:>8.2f}{self.total / 1e9:>8.2f}"
        return f"  {names:<26}{held}{sent / 1e6:>10.3g}   {kinds or '-'}"


def main() -> None:
    """Compile for each mesh, and print."""
    parser = cli.parser("partition", rounds=0)
    parser.add_argument("--devices", type=int, default=64, help="a square, such as 64")
    parser.add_argument("--weights", type=int, default=WEIGHTS, help="of the dense layer")
    arguments = parser.parse_args()
    devices, side = arguments.devices, math.isqrt(arguments.devices)
    if side**2 != devices:
        parser.error(f"--devices must be a square, got {devices}")
    jax.config.update("jax_num_cpu_devices", devices)
    described = cli.machine()
    print(
        f"\n  GB on each device: arguments and total; MB that it sends in each step, by collective"
        f"\n  {'mesh':<26}{'GB':>8}{'total':>8}{'MB sent':>10}"
    )
    meshes = [{}, *({name: devices} for name in sharding.AXES), {"weights": side, "examples": side}]
    rows = []
    for sizes in meshes:
        rows.append(share(sizes, arguments.weights, devices))
        print(rows[-1], flush=True)
    cli.write(arguments.output, {"machine": described, "rows": [row._asdict() for row in rows]})


def share(sizes: dict[str, int], weights: int, devices: int) -> Share:
    """What one device has of the run on a mesh.

    Args:
      sizes: of the mesh's axes; empty for one device.
      weights: number of weights, and of decays.
      devices: number of sampled λ, and of hundreds of examples in a minibatch, on any mesh.
    """
    inputs, outputs = growth.sides(weights)
    problem, method, start = subject(inputs, outputs, samples=devices)
    batch = devices * EXAMPLES
    plan = plans.plan(
        seeds=range(sizes.get("seeds", 1)),
        steps=STEPS,
        inner_steps=1,
        train_batch_size=batch,
        valid_batch_size=batch,
        eval_every=STEPS,
        checkpoint_every=1,
        seeds_at_once=None,
    )
    mesh = plans.named_mesh(jax.make_mesh(tuple(sizes.values()), tuple(sizes)) if sizes else None)
    rows: Any = [jax.ShapeDtypeStruct((batch, width), jnp.float32) for width in (inputs, outputs)]
    data = Data(Examples(*rows), Examples(*rows))
    with sharding.over(mesh):
        made = programs.programs(problem, method, start, data, plan)
        keys = jax.eval_shape(lambda: programs.keys(plan.seeds))
        carried = made.like, made.best_like
        lowered = made.chunk(STEPS).lower(carried, keys, data, jnp.int32(0))
        compiled = lowered.compile(compiler_options=IN_HASTE)
    memory: Any = compiled.memory_analysis()
    found = collectives.collectives(compiled.as_text(), devices)
    return Share(
        sizes,
        memory.argument_size_in_bytes,
        machine.bytes_held(compiled),
        collectives.per_step(found, STEPS),
    )


def subject(
    inputs: int, outputs: int, samples: int
) -> tuple[shn.Problem, shn.HyperOptimizer, Callable[[jax.Array], Any]]:
    """The problem, the method, and λ̂'s start, a function of a key that is never called."""
    problem, decays, _ = growth.subject(inputs, outputs)
    method = shn.local_response(
        problem,
        shn.hypernets.factorized(growth.RANK),
        hypernet_optimizer=optax.adam(1e-4),
        hyper_optimizer=optax.adam(1e-4),
        sampler=shn.samplers.local_gaussian(growth.SAMPLING_SCALE),
        samples=samples,
    )
    return problem, method, lambda key: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), decays)


if __name__ == "__main__":
    main()
