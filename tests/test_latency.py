"""The latency table is measured, by a clock that only blocks move."""

import dataclasses
import json
import random
from collections.abc import Iterator

import pytest
import torch
from latency_inputs import (
    FAMILIES,
    HEAD,
    PLAIN_SPACE,
    STEM,
    STEP,
    TINY_VIT_SPACE,
    clockwork,
    cost,
    kind_numbers,
    layers_of,
)
from test_families import PLAIN, TINY_VIT
from tiny import CONFIG, HEADED_CONFIG, HEADED_SPACE, SPACE

from search_spaces import Subnet
from trainables.clock import HostClock, clock_of
from trainables.latency import find_kinds, measure_table
from trainables.latency_check import check_table
from trainables.latency_table import LatencyTable
from trainables.sam.encoder import elastic


def test_a_vit_has_global_and_windowed_blocks() -> None:
    windowed, whole = find_kinds(elastic(HEADED_CONFIG.build()), SPACE.widths, HEADED_SPACE.heads)
    assert (windowed.layers, whole.layers) == ((0, 2), (1, 3))
    assert (windowed.attention, whole.attention) == ("windowed", "global")
    assert windowed.tokens == whole.tokens == (4, 4, 32)
    assert (windowed.widths, whole.widths) == ((32, 64, 128), (16, 128))
    assert (windowed.heads, whole.heads) == ((1, 2, 4), (2, 3, 4))
    assert windowed.ms == ()


def test_a_tiny_vit_has_a_kind_a_stage() -> None:
    kinds = find_kinds(elastic(TINY_VIT.build()), TINY_VIT_SPACE.widths, TINY_VIT_SPACE.heads)
    assert layers_of(kinds) == [(0,), (1, 2), (3, 4)]
    assert [kind.tokens for kind in kinds] == [(12, 12, 16), (6, 6, 24), (6, 6, 32)]
    assert [kind.widths for kind in kinds] == [(8, 32), (12, 24, 48), (16, 64)]
    assert [kind.heads for kind in kinds] == [(1, 2), (1, 2, 3), (1, 2, 4)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mlp_widths": (128, 128, 64, 128)}, [(0,), (1, 3), (2,)]),
        ({"layer_heads": (2, 2, 1, 2)}, [(0,), (1, 3), (2,)]),
        ({"global_layers": ()}, [(0, 1, 2, 3)]),
    ],
)
def test_blocks_of_other_sizes_are_of_other_kinds(
    change: dict[str, tuple[int, ...]], expected: list[tuple[int, ...]]
) -> None:
    encoder = elastic(dataclasses.replace(CONFIG, **change).build())
    assert layers_of(find_kinds(encoder, [(8,)] * 4)) == expected


def test_blocks_whose_tensors_are_alike_differ_by_their_attention_and_their_heads() -> None:
    # Windows as large as the grid: relative positions have the same shape.
    encoder = elastic(dataclasses.replace(CONFIG, window_size=4).build())
    assert layers_of(find_kinds(encoder, [(8,)] * 4)) == [(0, 2), (1, 3)]
    last, heads = encoder.blocks[3], encoder.heads
    encoder.heads = lambda block: dataclasses.replace(heads(block), count=1 + (block is last))
    assert layers_of(find_kinds(encoder, [(8,)] * 4)) == [(0, 2), (1,), (3,)]


def test_the_parents_own_size_is_always_measured_and_none_above_it() -> None:
    encoder = elastic(HEADED_CONFIG.build())
    for kind in find_kinds(encoder, [(8,), (16,), (24,), (16,)], [(1,)] * 4):
        assert kind.widths in ((8, 24, 128), (16, 128))
        assert kind.heads == (1, 4)
    with pytest.raises(ValueError, match=r"layers \(1, 3\) have 128, not 200"):
        find_kinds(encoder, [(8,), (200,), (8,), (8,)])
    with pytest.raises(ValueError, match="heads are not elastic"):
        find_kinds(elastic(PLAIN.build()), PLAIN_SPACE.widths, [(1,)] * 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_entry_is_what_the_block_takes_and_subnets_add_up(family: str) -> None:
    config, space = FAMILIES[family]
    encoder, clock, _ = clockwork(config, kind_numbers(config, space))
    table = measure_table(encoder, space.widths, space.heads, model=family, rounds=2, clock=clock)
    assert table.fixed_ms == STEM + config.depth * STEP + HEAD
    for number, kind in enumerate(table.kinds):
        for sizes, row in zip(kind.sizes, kind.ms, strict=True):
            for (width, heads), ms in zip(sizes, row, strict=True):
                assert ms == pytest.approx(cost(number, width, heads or 0))
    rng = random.Random(0)
    widths = tuple(tuple(range(min(w), max(w) + 1)) for w in space.widths)
    heads = tuple(tuple(range(min(h), max(h) + 1)) for h in space.heads)
    finer = dataclasses.replace(space, widths=widths, heads=heads)
    subnets = [space.largest, space.smallest, *(finer.sample(rng) for _ in range(10))]
    check = check_table(encoder, table, subnets, rounds=2, clock=clock)
    assert check.predicted == pytest.approx(check.measured)
    assert len(set(check.measured)) > 10
    assert check.noise == 0
    assert table.parent == encoder.largest
    assert table.predict(table.parent) == pytest.approx(check.measured[0])


def test_heads_that_were_not_asked_for_stay_whole() -> None:
    encoder, clock, asked = clockwork(HEADED_CONFIG)
    table = measure_table(encoder, SPACE.widths, model="vit", rounds=1, clock=clock)
    assert {heads for _, _, heads in asked} == {None}
    assert [kind.heads for kind in table.kinds] == [(), ()]
    assert table.kinds[0].ms == ((cost(0, 32, 4), cost(0, 64, 4), cost(0, 128, 4)),)
    with pytest.raises(ValueError, match="heads are not elastic"):
        table.predict(Subnet((0,), (32,), (2,)))
    with pytest.raises(ValueError, match="not measured with 1 heads, only with all"):
        table.bounds(HEADED_SPACE)


def test_in_a_round_each_layer_has_every_size_and_neighbours_differ() -> None:
    encoder, clock, asked = clockwork(HEADED_CONFIG)
    measure_table(encoder, SPACE.widths, HEADED_SPACE.heads, model="vit", rounds=1, clock=clock)
    warm, timed = asked[:4], asked[4:]
    assert warm == [(layer, 128, None) for layer in range(4)]
    assert len(timed) == 4 * 9
    windowed = {(w, h) for w in (32, 64, 128) for h in (1, 2, None)}
    whole = {(w, h) for w in (16, 128) for h in (2, 3, None)}
    for layer, sizes in enumerate((windowed, whole, windowed, whole)):
        had = [(width, heads) for which, width, heads in timed if which == layer]
        assert set(had) == sizes
        assert max(map(had.count, sizes)) - min(map(had.count, sizes)) <= 1
    for start in range(0, len(timed), 4):
        first, _, third, _ = timed[start : start + 4]
        assert first[1:] != third[1:]


def test_a_stalled_pass_and_the_first_one_change_nothing() -> None:
    def measured(stalled: range) -> LatencyTable:
        encoder, clock, asked = clockwork(CONFIG)
        inner = encoder.run_block

        def run_block(*inputs: object) -> torch.Tensor:
            clock.now += 1000 * (len(asked) in stalled)
            return inner(*inputs)

        encoder.run_block = run_block
        return measure_table(encoder, SPACE.widths, model="vit", rounds=3, clock=clock)

    calm = measured(range(0))
    assert measured(range(4)) == calm, "the first pass"
    assert measured(range(8, 12)) == calm, "one of nine"
    assert measured(range(4, 40)) != calm


def test_when_the_time_is_over_the_round_is_finished() -> None:
    encoder, clock, asked = clockwork(CONFIG)
    table = measure_table(encoder, SPACE.widths, model="vit", rounds=9, budget_s=-1, clock=clock)
    assert len(asked) == 4 * (1 + 3)
    asked.clear()
    check = check_table(encoder, table, [SPACE.smallest] * 2, budget_s=-1, clock=clock)
    assert len(asked) == 4 + 2 * SPACE.smallest.depth
    assert check.noise is None
    assert check.rank_correlation is None
    assert json.loads(json.dumps(check.to_dict()))["mean_error"] == 0


def test_progress_sees_every_pass() -> None:
    encoder, clock, _ = clockwork(CONFIG)
    seen = []

    def track(passes: list[object]) -> Iterator[object]:
        for each in passes:
            seen.append(len(passes))
            yield each

    table = measure_table(encoder, SPACE.widths, model="m", rounds=2, clock=clock, track=track)
    assert seen == [6] * 6
    seen.clear()
    check_table(encoder, table, [SPACE.largest], rounds=5, clock=clock, track=track)
    assert seen == [5] * 5


def test_the_hosts_clock_counts_milliseconds() -> None:
    clock = clock_of(torch.device("cpu"))
    assert isinstance(clock, HostClock)
    assert clock.ms(1.0, 1.5) == 500
    start = clock.mark()
    sum(range(10_000))
    assert 0 < clock.ms(start, clock.mark()) < 60_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_events_are_the_clock() -> None:
    encoder = elastic(CONFIG.build()).eval().to("cuda")
    table = measure_table(encoder, SPACE.widths, model="vit", rounds=2)
    assert table.device == torch.cuda.get_device_name()
    assert min(ms for kind in table.kinds for row in kind.ms for ms in row) > 0
    check = check_table(encoder, table, [SPACE.largest], rounds=2)
    assert 0.1 < check.predicted[0] / check.measured[0] < 10
