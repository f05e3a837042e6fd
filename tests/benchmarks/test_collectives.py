"""Collectives are counted in a program written by hand, and in a compiled one."""

import jax
import numpy as np

from benchmarks import _collectives as collectives
from benchmarks._collectives import Collective

PROGRAM = """\
HloModule jit_run, is_scheduled=true, num_partitions=8

%add.1 (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%inner.2 (p: (s32[], f32[16])) -> (s32[], f32[16]) {
  %moved = bf16[16]{0} collective-permute(%slice), channel_id=3, source_target_pairs={{0,1},{1,0}}
}

%called.3 (a: f32[4]) -> f32[8] {
  ROOT %all = f32[8]{0} all-gather(%a), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, dimensions={0}
}

%body.4 (p: (s32[], f32[16])) -> (s32[], f32[16]) {
  %both = (f32[4,5]{1,0}, f32[]) all-reduce(%g, %l), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add.1
  %gathered = f32[8]{0} call(%a), to_apply=%called.3
  %loop = (s32[], f32[16]{0}) while(%t), condition=%less.5, body=%inner.2, backend_config={"known_trip_count":{"n":"3"}}
}

ENTRY %main.6 (p: f32[16]) -> f32[16] {
  %steps = (s32[], f32[16]{0}) while(%t), condition=%less.5, body=%body.4, backend_config={"known_trip_count":{"n":"97"}}
  %once = f32[2]{0} reduce-scatter-start(%p), channel_id=9, replica_groups={}, dimensions={0}, to_apply=%add.1
  %done = f32[2]{0} reduce-scatter-done(%once)
}
"""  # noqa: E501


def test_collectives_of_a_program_are_found_with_their_bytes_groups_and_loops():
    assert collectives.collectives(PROGRAM, devices=8) == [
        Collective("all-reduce", 4 * 21, 4, (97,)),
        Collective("all-gather", 4 * 8, 2, (97,)),
        Collective("collective-permute", 2 * 16, 8, (97, 3)),
        Collective("reduce-scatter", 4 * 2, 8, ()),
    ]


def test_what_a_step_sends_by_hand():
    found = collectives.collectives(PROGRAM, devices=8)
    assert collectives.per_step(found, 97) == {
        "all-reduce": (1, 2 * 3 / 4 * 84),
        "all-gather": (1, 1 / 2 * 32),
        "collective-permute": (3, 3 * 32),
    }
    assert found[-1].sent == 7 * 8


def test_xla_writes_its_programs_in_this_form():
    """In one process there is one device, whose collectives have groups of one and send nothing."""
    mesh = jax.make_mesh((1,), ("all",))
    spec = jax.sharding.PartitionSpec()

    def summed(carried):
        step = lambda carried, _: (jax.lax.psum(carried, "all"), None)  # noqa: E731
        return jax.lax.scan(step, carried, length=97)[0]

    mapped = jax.shard_map(summed, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    program = jax.jit(mapped).lower(np.ones((3, 5), np.float32)).compile().as_text()
    found = collectives.collectives(program, devices=1)
    assert found == [Collective("all-reduce", 60, 1, (97,))]
    assert found[0].sent == 0
