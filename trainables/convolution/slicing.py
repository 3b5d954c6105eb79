"""How a convolution falls apart: filter rows into products, pictures and rows into blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from search_spaces.conv_plan import ConvPlan
from search_spaces.conv_shape import ConvShape


@dataclass(frozen=True)
class Product:
    """Filter rows `first` to `last` that one matrix product covers.

    Args:
        first: filter row.
        last: filter row behind the last one.
        slot: of the first row's remainder r.
        start: q of the first output row.
    """

    first: int
    last: int
    slot: int
    start: int


@dataclass(frozen=True)
class Slicing:
    """How filter rows fall on the window tensor.

    Args:
        remainders: r of each slot: rows q·s + r are together.
        products: one after the other.
    """

    remainders: tuple[int, ...]
    products: tuple[Product, ...]

    @property
    def halo(self) -> int:
        """How many more q a block has than output rows."""
        return max(product.start for product in self.products)


@dataclass(frozen=True)
class Block:
    """Pictures and output rows that are computed together, from a first to before a last."""

    pictures: tuple[int, int]
    rows: tuple[int, int]

    @property
    def counts(self) -> tuple[int, int]:
        """How many pictures, how many rows."""
        return self.pictures[1] - self.pictures[0], self.rows[1] - self.rows[0]


def slicing_of(kernel: int, stride: int, dilation: int) -> Slicing:
    """The fewest products: filter row u begins at q = u·d ÷ s with the remainder r."""
    places = [divmod(u * dilation, stride) for u in range(kernel)]
    remainders = tuple(dict.fromkeys(r for _, r in places))
    slots = [remainders.index(r) for _, r in places]
    breaks = [
        u + 1
        for u, (one, other) in enumerate(pairwise(range(kernel)))
        if places[one][0] != places[other][0] or slots[other] != slots[one] + 1
    ]
    return Slicing(
        remainders,
        tuple(
            Product(first, last, slots[first], places[first][0])
            for first, last in pairwise([0, *breaks, kernel])
        ),
    )


def blocks_of(
    shape: ConvShape, slicing: Slicing, plan: ConvPlan, element_size: int
) -> Iterator[Block]:
    """Blocks in order, whole pictures where one or more fit into the plan's size."""
    height, width = shape.output
    row = len(slicing.remainders) * shape.channels * shape.kernel[1] * width
    both = row + shape.filters * width
    size = plan.block_kib * 1024 // element_size - slicing.halo * row
    if not plan.block_kib:
        count, rows = shape.batch, height
    elif size >= height * both:
        count, rows = (size + slicing.halo * row) // (height * both + slicing.halo * row), height
    else:
        count, rows = 1, max(1, size // both)
    count, rows = _evenly(shape.batch, count), _evenly(height, rows)
    for n in range(0, shape.batch, count):
        for h in range(0, height, rows):
            yield Block((n, min(n + count, shape.batch)), (h, min(h + rows, height)))


def _evenly(total: int, most: int) -> int:
    """How many at a time, so that all blocks but the last are alike and that one nearly so."""
    return -(-total // -(-total // most)) if total else 1
