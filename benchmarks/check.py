"""Has the library become slower? Ratios to plain JAX beside the last ones recorded.

    python -m benchmarks.check             # compare; exit status 1 if any fell by more than a tenth
    python -m benchmarks.check --record    # make this machine's ratios the recorded ones

takes about two minutes on 2 cores. The problems are the four of `hyper_training`, one seed, and
the library and plain JAX take turns. What seems to have fallen is compiled and measured once more,
and counts as fallen only if it falls again.
"""

import functools
import pathlib
import sys

import jax

from benchmarks import _cli as cli
from benchmarks import _problems as problems
from benchmarks import _ratios as ratios
from benchmarks import _timing as timing
from benchmarks._ratios import Record
from benchmarks._timing import Turn
from benchmarks.contenders import own, plain_jax

RECORD = pathlib.Path(__file__).parent / "results" / "ratios.json"
STEPS_PER_CALL = 50


def main() -> None:
    """Measure, then compare or record."""
    parser = cli.parser("check", rounds=11)
    parser.add_argument(
        "--record", action="store_true", help=f"write {RECORD.name} rather than compare with it"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if not arguments.record and not RECORD.exists():
        parser.error(f"there is no {RECORD} to compare with; make it with --record")
    machine = cli.machine()
    measured = {name: measure(name, arguments.rounds) for name in problems.SETTINGS}
    here = {name: ratio for name, (ratio, _) in measured.items()}
    record = Record(machine, here, max(busy for _, busy in measured.values()))
    cli.write(arguments.output, record._asdict())
    if arguments.record:
        ratios.write(RECORD, record)
        print(f"{ratios.table(here, {})}\nRecorded in {RECORD}.")
        return
    again = functools.partial(measure, rounds=arguments.rounds)
    if fell := ratios.compare(record, ratios.read(RECORD), lambda name: again(name)[0]):
        sys.exit(f"Fell by more than a tenth, twice: {', '.join(fell)}.")


def measure(name: str, rounds: int) -> tuple[float, float]:
    """Speed of the library in units of plain JAX's, and the number of cores busy with others."""
    setting = problems.SETTINGS[name]
    data = jax.device_get(problems.images(setting.train_images, setting.valid_images)[1])
    chunk = own.chunk(setting, data, 1, STEPS_PER_CALL)
    plain = plain_jax.contender(own.start(setting, data, seed=0), STEPS_PER_CALL)
    turns = {
        "own": Turn(chunk.advance, chunk.steps),
        "plain": Turn(plain.advance, plain.steps_per_call),
    }
    rates, others = timing.interleaved(turns, rounds)
    return timing.median_ratio(rates["own"], rates["plain"]), others


if __name__ == "__main__":
    main()
