"""The tables that `hyper_training` prints of one problem."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from benchmarks import _machine as machine
from benchmarks import _timing as timing
from benchmarks._machine import Peaks
from benchmarks._timing import Rate
from benchmarks.contenders.own import Chunk

OWN = "shohypernet, "


def name_of(seeds: int) -> str:
    return f"{OWN}{seeds} seed{'s' if seeds > 1 else ''}"


def print_agreement(agreement: Mapping[str, Any], tolerance: float) -> None:
    furthest = agreement["furthest_loss_difference"]
    verdict = "make" if agreement["holds"] else "DO NOT MAKE"
    print(
        f"  They {verdict} the same calculation: on the same draws, the losses of "
        f"{agreement['steps']} steps are within {max(furthest.values()):.0e}\n  of shohypernet's "
        f"({tolerance:g} allowed)."
    )
    if not agreement["holds"]:
        for name, difference in furthest.items():
            print(f"    {name:<28}{difference:.1e}")


def print_one_seed(names: list[str], rates: Mapping[str, Rate]) -> None:
    print("\n  One seed              steps/s: median (range)     times NumPy   CPU ms per step")
    for name in names:
        rate = rates[name]
        ratio = timing.median_ratio(rate, rates[names[0]])
        print(f"  {name:<22}{rate!s:<28}{ratio:10.1f} {rate.cpu_milliseconds:15.2f}")


def print_seeds(chunks: Mapping[str, Chunk], rates: Mapping[str, Rate]) -> None:
    numpy = next(iter(rates.values()))
    print(
        f"\n  Seeds, together or in turns on {jax.device_count()} devices\n"
        "                steps/s: median (range)   seed-steps/s  times NumPy  compile s  memory MB"
    )
    for name, chunk in chunks.items():
        rate = rates[name]
        ratio = chunk.seeds * timing.median_ratio(rate, numpy)
        print(
            f"  {_short(name):<14}{rate!s:<26}{chunk.seeds * rate.median:12.1f} {ratio:12.1f} "
            f"{chunk.compile_seconds:10.1f} {chunk.bytes_held / 1e6:10.1f}"
        )


def print_fit(driver: Mapping[str, float]) -> None:
    print(
        f"\n  fit() itself, one seed, with its evaluation of all data every {driver['eval_every']} "
        f"steps: {driver['steps_per_second']:.1f} steps/s,\n  {driver['ratio_to_bare_steps']:.2f} "
        f"of the bare steps' just before and after; compiling took "
        f"{driver['compile_seconds']:.1f} s."
    )


def print_roofline(rows: list[dict[str, Any]], peaks: Peaks, state_bandwidth: float) -> None:
    print(
        f"\n  Peaks: products {peaks.product / 1e9:.0f} GFLOP/s; reading images again "
        f"{peaks.bandwidth / 1e9:.0f} GB/s, an array of φ's size {state_bandwidth / 1e9:.0f} GB/s, "
        f"{machine.LARGE_BYTES / 1e6:.0f} MB {peaks.read / 1e9:.0f} GB/s\n"
        "  Counted by hand (and by the compiler)\n"
        "  Seeds         MB moved           MFLOP              limit    at most/s  reached/s  share"
    )
    for row in rows:
        moved = (row["image_bytes"] + row["state_bytes"]) / 1e6
        megabytes = f"{moved:.1f} ({_mega(row['compiler_bytes'])})"
        megaflops = f"{row['flops'] / 1e6:.0f} ({_mega(row['compiler_flops'])})"
        print(
            f"  {_short(row['arrangement']):<14}{megabytes:<18} {megaflops:<18} {row['limit']:<8} "
            f"{row['steps_per_second_at_most']:9.1f} {row['steps_per_second']:10.1f} "
            f"{row['share']:6.0%}"
        )


def _short(name: str) -> str:
    return name.removeprefix(OWN).removesuffix(" seeds").removesuffix(" seed")


def _mega(count: float) -> str:
    return "unknown" if math.isnan(count) else f"{count / 1e6:.0f}"
