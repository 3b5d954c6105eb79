"""What a latency table predicts, keeps on disk, and how far it is off."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from latency_inputs import FAMILIES, all_subnets, clockwork, hand_made
from tiny import CONFIG, HEADED_SPACE, SPACE

from search_spaces import InputError, Subnet, SubnetSpace
from trainables.latency import measure_table
from trainables.latency_check import Check, check_table, random_subnets
from trainables.latency_memory import with_memory
from trainables.latency_table import LatencyTable
from trainables.peak_memory import peak_bytes
from trainables.sam.encoder import elastic


def test_between_what_was_measured_time_is_linear() -> None:
    kind = hand_made().kinds[0]
    assert kind.block_ms(10, 1) == 1
    assert kind.block_ms(15, 1) == 2
    assert kind.block_ms(30, 1) == 3.5
    assert kind.block_ms(15) == kind.block_ms(15, 4) == 4
    assert kind.block_ms(15, 2) == pytest.approx(2 + (4 - 2) / 3)
    for width, heads, known in ((9, 1, "9 neurons"), (41, None, "41 neurons"), (10, 5, "5 heads")):
        with pytest.raises(ValueError, match=rf"\(0, 2\) were not measured with {known}, only"):
            kind.block_ms(width, heads)


def test_a_prediction_is_what_every_subnet_has_and_its_blocks() -> None:
    table = hand_made()
    assert table.predict(Subnet((1,), (10,))) == 7 + 3
    assert table.predict(Subnet((0, 1, 2), (10, 20, 40))) == 7 + 2 + 0.5 + 5
    assert table.predict(Subnet((0, 1), (20, 10), (1, 1))) == 7 + 3 + 1
    assert table.parent == Subnet((0, 1, 2), (40, 20, 40))
    with pytest.raises(ValueError, match="no layer 3; mine has 3"):
        table.predict(Subnet((3,), (10,)))


def test_the_memory_of_a_subnet_is_that_of_the_part_that_needs_most() -> None:
    table = hand_made()
    assert table.predict_peak_bytes(Subnet((0,), (10,), (1,))) == 150
    assert table.predict_peak_bytes(Subnet((0, 2), (10, 20), (4, 1))) == 200
    assert table.predict_peak_bytes(Subnet((0, 1), (30, 10))) == 600


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tables_memory_is_that_of_whole_passes(family: str) -> None:
    config, space = FAMILIES[family]
    encoder = elastic(config.build()).eval()
    timed = measure_table(encoder, space.widths, space.heads, model=family, rounds=1)
    table = with_memory(encoder, timed)
    picture = torch.zeros(1, 3, encoder.image_size, encoder.image_size)
    for subnet in [space.largest, *random_subnets(space, 10, seed=0)]:
        with torch.no_grad():
            _, grown = peak_bytes(lambda: encoder(picture, subnet), picture.device)  # noqa: B023
        assert table.predict_peak_bytes(subnet) == grown + picture.nbytes


def test_memory_is_counted_while_something_holds_it() -> None:
    numbers = torch.ones(1000, 100)
    there = numbers.device
    # The product, and what relu makes of it; then the sum beside the latter.
    assert peak_bytes(lambda: (2 * numbers).relu().sum(), there)[1] == 800_000
    assert peak_bytes(lambda: numbers.view(100, 1000)[:10].sum(), there)[1] == 4
    assert peak_bytes(lambda: numbers.add_(1), there)[1] == 0
    kept, grown = peak_bytes(lambda: [numbers + n for n in range(3)], there)
    assert grown == sum(tensor.nbytes for tensor in kept)


def test_bounds_are_those_of_all_subnets_of_a_space() -> None:
    table = hand_made()
    # Wider is not always slower here, nor more heads.
    for probabilities in ((0.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.0, 0.3, 0.0)):
        widths = ((10, 15, 40), (10, 20), (20, 40))
        for heads in ((), ((1, 4), (1, 2), (4,))):
            space = SubnetSpace(widths, probabilities, heads)
            found = [table.predict(subnet) for subnet in all_subnets(space)]
            assert table.bounds(space) == pytest.approx((min(found), max(found)))


def test_a_table_survives_json(tmp_path: Path) -> None:
    table, path = hand_made(), tmp_path / "latency.json"
    path.write_text(json.dumps({**table.to_dict(), "more": 1}))
    again = LatencyTable.load(path, "mine", 64)
    assert again == table
    assert hash(again) == hash(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, "is of other at 64 px, not of mine at 64 px"),
        ({"image_size": 128}, "is of mine at 128 px, not of mine at 64 px"),
        ({"format": 1}, "is no latency table: format is 1, not 2"),
        ({"kinds": 3}, "is no latency table"),
        ({"kinds": [{}]}, "is no latency table: 'layers'"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({**hand_made().to_dict(), **change}))
    with pytest.raises(InputError) as refused:
        LatencyTable.load(path, "mine", 64)
    assert f"{path} {message}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        LatencyTable.load(tmp_path / "latency.json", "mine", 64)
    for text in ("", "[]", "{}", "no"):
        (tmp_path / "latency.json").write_text(text)
        with pytest.raises(InputError, match="is no latency table"):
            LatencyTable.load(tmp_path / "latency.json", "mine", 64)


def test_a_check_says_how_far_predictions_are_off() -> None:
    check = Check((1.0, 2.0, 3.0, 4.0), (1.0, 1.6, 4.0, 3.2), 0.1)
    assert check.errors == pytest.approx([0, 0.25, -0.25, 0.25])
    assert check.rank_correlation == pytest.approx(0.8)
    value = check.to_dict()
    assert value["mean_error"] == pytest.approx(0.1875)
    assert value["worst_error"] == pytest.approx(0.25)
    assert value["bias"] == pytest.approx(0.0625)
    assert (value["subnets"], value["noise"]) == (4, 0.1)


def test_noise_is_how_far_two_halves_of_the_measurements_differ() -> None:
    encoder, clock, _ = clockwork(CONFIG)
    table = measure_table(encoder, SPACE.widths, model="vit", rounds=1, clock=clock)
    calm, rounds = clock.ms, itertools.count()
    # The warm pass, then one subnet: every other pass takes twice as long.
    clock.ms = lambda start, end: calm(start, end) * (2 if next(rounds) % 2 else 1)
    check = check_table(encoder, table, [SPACE.largest], rounds=4, clock=clock)
    assert check.noise == pytest.approx(0.5)
    assert check.measured[0] == pytest.approx(1.5 * table.predict(SPACE.largest))
    assert check.errors == pytest.approx([-1 / 3])


def test_random_subnets_are_distinct_and_follow_from_the_seed() -> None:
    found = random_subnets(HEADED_SPACE, 20, seed=1)
    assert len(set(found)) == 20
    assert all(HEADED_SPACE.contains(subnet) for subnet in found)
    assert random_subnets(HEADED_SPACE, 20, seed=1) == found
    assert random_subnets(HEADED_SPACE, 20, seed=2) != found
    few = SubnetSpace(((1, 2), (3,)), (0.0, 0.0))
    assert len(random_subnets(few, 20, seed=0)) == 2
