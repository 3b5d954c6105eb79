"""What the tests of latency share: a clock that only blocks move, and a table made by hand."""

import itertools
from collections.abc import Callable, Iterator

import torch
from test_families import PLAIN, TINY_VIT
from tiny import HEADED_CONFIG, HEADED_SPACE

from search_spaces import Subnet, SubnetSpace
from trainables.latency import find_kinds
from trainables.latency_table import Kind, LatencyTable
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
