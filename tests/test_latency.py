"""The latency table: its bookkeeping by a clock that only blocks move, and the command."""

import dataclasses
import functools
import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from test_families import PLAIN, TINY_VIT
from tiny import CONFIG, HEADED_CONFIG, HEADED_SPACE, SPACE

import automl.latency
from automl.cli import QUICK_START, main
from automl.commands import PROJECT
from automl.config import load_config
from automl.output import claim_output
from automl.workspace import Workspace
from search_spaces import InputError, Subnet, SubnetSpace
from trainables.clock import HostClock, clock_of
from trainables.latency import find_kinds, measure_table
from trainables.latency_check import Check, check_table, random_subnets
from trainables.latency_memory import with_memory
from trainables.latency_table import Kind, LatencyTable
from trainables.peak_memory import peak_bytes
from trainables.sam.encoder import ElasticEncoder, elastic
from trainables.sam.family import EncoderConfig

STEM, STEP, HEAD = 5.0, 0.25, 3.0
TINY_VIT_SPACE = SubnetSpace(
    ((8, 32), (12, 24, 48), (12, 48), (16, 64), (16, 64)),
    (0.0, 0.5, 0.5, 0.5, 0.0),
    ((1, 2), (1, 3), (1, 2, 3), (2, 4), (1, 4)),
)
PLAIN_SPACE = SubnetSpace(((8, 32), (12, 48), (16, 64)), (0.0, 0.5, 0.5))
FAMILIES = {
    "vit": (HEADED_CONFIG, HEADED_SPACE),
    "tiny_vit": (TINY_VIT, TINY_VIT_SPACE),
    "plain": (PLAIN, PLAIN_SPACE),
}


class Hand:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def mark(self) -> float:
        return self.now

    def ms(self, start: float, end: float) -> float:
        return end - start


def cost(kind: int, width: int, heads: int) -> float:
    """Milliseconds of a block; linear in each, so that interpolation is exact."""
    return 1.0 + kind + width / 8 + heads / 2 + (1 + kind) * width * heads / 16


def clockwork(
    config: EncoderConfig, kinds: dict[int, int] | None = None
) -> tuple[ElasticEncoder, Hand, list[tuple[int, int, int | None]]]:
    """An encoder whose parts move a clock by what they cost; what its blocks were asked for."""
    encoder, clock, asked = elastic(config.build()).eval(), Hand(), []
    kind_of = kinds or dict.fromkeys(range(config.depth), 0)
    inner = {name: getattr(encoder, name) for name in ("stem", "run_block", "run_after", "head")}

    def fixed(name: str, ms: float) -> Callable[..., torch.Tensor]:
        def run(*inputs: object) -> torch.Tensor:
            clock.now += ms
            return inner[name](*inputs)

        return run

    def run_block(layer: int, tokens: torch.Tensor, width: int, *heads: int) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        assert len(tokens) == 1
        asked.append((layer, width, *(heads or (None,))))
        whole = config.full_heads[layer] if config.full_heads else 0
        clock.now += cost(kind_of[layer], width, *(heads or (whole,)))
        return inner["run_block"](layer, tokens, width, *heads)

    encoder.run_block = run_block
    encoder.stem, encoder.head = fixed("stem", STEM), fixed("head", HEAD)
    encoder.run_after = fixed("run_after", STEP)
    return encoder, clock, asked


def layers_of(kinds: list[Kind]) -> list[tuple[int, ...]]:
    return [kind.layers for kind in kinds]


def kind_numbers(config: EncoderConfig, space: SubnetSpace) -> dict[int, int]:
    kinds = find_kinds(elastic(config.build()), space.widths, space.heads)
    return {layer: number for number, kind in enumerate(kinds) for layer in kind.layers}


def all_subnets(space: SubnetSpace) -> Iterator[Subnet]:
    choices = space.choices()
    for point in itertools.product(*choices.values()):
        yield space.from_flat(dict(zip(choices, point, strict=True)))


def hand_made() -> LatencyTable:
    tokens = (4, 4, 32)
    times, sizes = ((1.0, 3.0, 4.0), (2, 6, 5)), ((100, 200, 400), (200, 400, 800))
    one = Kind((0, 2), "global", tokens, (10, 20, 40), (1, 4), times, sizes)
    times, sizes = ((1.0, 2.0), (3.0, 0.5)), ((500, 600), (500, 900))
    other = Kind((1,), "windowed", tokens, (10, 20), (1, 2), times, sizes)
    return LatencyTable("mine", 64, "cpu", 2, "2.0", 7.0, 150, (one, other))


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


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with fewer rounds."""
    for name in ("measure_table", "check_table"):
        short = functools.partial(getattr(automl.latency, name), rounds=2)
        monkeypatch.setattr(automl.latency, name, short)


@pytest.mark.usefixtures("brief")
def test_the_command_measures_without_data_and_leaves_the_default_directory_free(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    asked = ["data=nowhere", "image_size=64", "designs.space.smallest_heads=[0.5]"]
    assert main(["latency", "--json", "--threads", str(threads + 1), *asked]) == 0
    value = json.loads(capsys.readouterr().out)
    (folder,) = (tmp_path / "runs").iterdir()
    config = load_config(PROJECT / QUICK_START, asked)
    assert folder.name == f"quickstart-{config.key}"
    assert str(folder) == value["output"]
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "latency.json"}
    written = json.loads((folder / "latency.json").read_text())
    assert {"output": value["output"], **written} == value
    table = LatencyTable.load(folder / "latency.json", "vit_t", 64)
    assert (table.threads, torch.get_num_threads()) == (threads + 1, threads)
    assert table.parent == Subnet(tuple(range(12)), (704,) * 12)
    assert value["parent_ms"] == table.predict(table.parent)
    assert [kind.layers for kind in table.kinds] == [(0, 1, 3, 4, 6, 7, 9, 10), (2, 5, 8, 11)]
    assert {(kind.widths, kind.heads) for kind in table.kinds} == {
        ((176, 352, 528, 704), (2, 3, 4))
    }
    workspace = Workspace(config, folder)
    space = config.designs.space
    first = workspace.draw_up(space.design(space.first_points()[0]), [0.0] * 12)
    least, most = table.bounds(first)
    assert value["first_design"] == {"subnets": first.size, "least_ms": least, "most_ms": most}
    check = value["check"]
    assert check["subnets"] == len(check["predicted"]) == len(check["measured"]) == 20
    errors = [abs(p / m - 1) for p, m in zip(check["predicted"], check["measured"], strict=True)]
    assert check["mean_error"] == pytest.approx(statistics.mean(errors))
    assert check["worst_error"] == max(errors)
    assert -1 <= check["rank_correlation"] <= 1
    # A study of another configuration may still have the default directory, and is left alone.
    theirs = tmp_path / "runs" / "quickstart"
    claim_output(Workspace(load_config(PROJECT / QUICK_START, ["seed=9"]), theirs))
    (folder / "latency.json").unlink()
    assert main(["latency", "--json", *asked]) == 0
    assert (folder / "latency.json").exists()
    assert [path.name for path in theirs.iterdir()] == ["config.yaml"]


@pytest.mark.usefixtures("brief")
def test_in_a_study_the_table_goes_to_its_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["image_size=64", "designs.space.width_count=[1]", "designs.space.removable=[1]"]
    default = tmp_path / "runs" / "quickstart"
    claim_output(Workspace(load_config(PROJECT / QUICK_START, asked), default))
    assert main(["latency", *asked]) == 0
    shown = capsys.readouterr().out
    table = LatencyTable.load(default / "latency.json", "vit_t", 64)
    assert {kind.widths for kind in table.kinds} == {(704,)}
    for word in ("vit_t at 64 px", "windowed", "global", "4 × 4 × 176", "704", "The parent:"):
        assert word in shown
    assert f"{table.kinds[1].ms[0][0]:.2f}" in shown
    assert "subnets, predicted beside measured: mean error" in shown
    assert max(len(line) for line in shown.splitlines()) <= 120
    assert main(["latency", *asked, "--output", "named"]) == 0
    assert (tmp_path / "named" / "latency.json").is_file()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["quickstart"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--threads", "0"], "--threads"),
        (["model=vit_x"], "model: 'vit_x' is unknown"),
        (["constraints.params=-1"], "constraints.params"),
        (["constraints.encoder_params=1"], "can't be reached"),
        (["checkpoint=nowhere.pth"], "nowhere.pth does not exist"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], part: str
) -> None:
    assert main(["latency", "--output", str(tmp_path / "out"), *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert part in line
    assert captured.out == ""
    assert not (tmp_path / "out").exists()
