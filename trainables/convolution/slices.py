"""Im2win without a compiler: a convolution as a sum of matrix products over slices of windows.

With the height shared (`rows`; `columns` are the same on transposed pictures), the window tensor is

    I'[c, v, h, wo] = I[c, h, wo·s + v·d],        v < kw: the width is unrolled, the height is not

and with h before wo in memory, the windows' row u is the run of columns from row u·d on: nothing is
copied to take it, and no product is in vain. So

    O[k, (ho, wo)] = Σ_u  F[k, u, (c, v)] · I'[(c, v), (ho·s + u·d, wo)]

With a stride, rows h = q·s + r are kept apart by r, so that a slice is still one run; slices that
begin at the same q are one product. Blocks of pictures and rows are made and multiplied one after
the other, while they are in the cache. Padding is added to a block, never to all pictures.

After im2win (arXiv 2306.14320 and 2306.14316), which shares the width and leaves a window's
elements together; matrix products want a slice's places together instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.convolution.plan import ConvPlan, Layout
from trainables.convolution.shape import ConvShape


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


def conv2d_by_slices(
    pictures: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape, plan: ConvPlan
) -> Tensor:
    """The convolution [N, K, Ho, Wo], in the memory format of the pictures; without gradients.

    Args:
        pictures: [N, C, H, W].
        weight: [K, C / groups, kh, kw].
        bias: [K].
        shape: theirs.
        plan: its layout, slices and block.
    """
    output = empty_output(pictures, shape)
    views = (pictures, weight, output)
    if plan.slices == "columns":
        views = (pictures.transpose(2, 3), weight.transpose(2, 3), output.transpose(2, 3))
        shape = shape.transposed
    pictures, weight, target = views
    slicing = slicing_of(shape.kernel[0], shape.stride[0], shape.dilation[0])
    filters = filter_rows(weight, shape, plan.layout)
    buffer = windows_buffer(pictures, shape, slicing, plan)
    scratch: Tensor | None = None
    for block in blocks_of(shape, slicing, plan, pictures.element_size()):
        fill_windows(buffer, pictures, block, shape, slicing, plan.layout)
        sums = _in_place(target, block)
        if sums is not None:
            multiply(sums, filters, buffer, bias, block, shape, slicing, plan.layout)
            continue
        if scratch is None:  # the first block is the largest
            scratch = target.new_empty(shape.filters * _columns(shape, block))
        sums = _apart(scratch, target, _columns(shape, block))
        multiply(sums, filters, buffer, bias, block, shape, slicing, plan.layout)
        (count, rows), part = block.counts, target[slice(*block.pictures), :, slice(*block.rows)]
        part.copy_(sums.unflatten(1, (rows, count, -1)).permute(2, 0, 1, 3))
    return output


def filter_rows(weight: Tensor, shape: ConvShape, layout: Layout) -> Tensor:
    """Filters [groups, K / groups, kh · n], one row's n numbers in the order of the windows."""
    split = weight.unflatten(0, (shape.groups, -1))
    order = (0, 1, 3, 2, 4) if layout == "nchw" else (0, 1, 3, 4, 2)
    ordered: Tensor = split.permute(order).flatten(2).contiguous()
    return ordered


def blocks_of(
    shape: ConvShape, slicing: Slicing, plan: ConvPlan, element_size: int
) -> Iterator[Block]:
    """Blocks in order, whole pictures where one or more fit into the plan's size."""
    height = shape.output[0]
    row = len(slicing.remainders) * shape.channels * shape.kernel[1] * shape.output[1]
    fit = plan.block_kib * 1024 // (row * element_size) if plan.block_kib else None
    whole = height + slicing.halo
    if fit is None or fit >= whole:
        count, rows = shape.batch if fit is None else fit // whole, height
    else:
        rows = max(1, fit - slicing.halo)
        rows = -(-height // -(-height // rows))  # as even as they can be
        count = 1
    for n in range(0, shape.batch, max(count, 1)):
        for h in range(0, height, rows):
            yield Block((n, min(n + count, shape.batch)), (h, min(h + rows, height)))


def windows_buffer(pictures: Tensor, shape: ConvShape, slicing: Slicing, plan: ConvPlan) -> Tensor:
    """Memory for the windows of any block."""
    row = len(slicing.remainders) * shape.channels * shape.kernel[1] * shape.output[1]
    found = blocks_of(shape, slicing, plan, pictures.element_size())
    largest = max(
        (count * (rows + slicing.halo) for count, rows in (block.counts for block in found)),
        default=0,
    )
    return pictures.new_empty(largest * row)


def fill_windows(
    buffer: Tensor,
    pictures: Tensor,
    block: Block,
    shape: ConvShape,
    slicing: Slicing,
    layout: Layout,
) -> None:
    """Write a block's windows, the transform: [G, slot, c, v, q, n, wo], or with c last."""
    stride = shape.stride[0]
    source, beyond = _rows_of(pictures, block, shape)
    target = _windows(buffer, block, shape, slicing, layout)
    count, rows = block.counts
    picture, channel, row, column = source.stride()
    each = shape.channels // shape.groups
    for slot, remainder in enumerate(slicing.remainders):
        filled = min(rows + slicing.halo, -(-(beyond - remainder) // stride))
        target[:, slot, :, :, :filled].copy_(
            source.as_strided(
                (shape.groups, each, shape.kernel[1], filled, count, shape.output[1]),
                (
                    each * channel,
                    channel,
                    shape.dilation[1] * column,
                    stride * row,
                    picture,
                    shape.stride[1] * column,
                ),
                source.storage_offset() + remainder * row,
            )
        )


def multiply(
    place: Tensor,
    filters: Tensor,
    buffer: Tensor,
    bias: Tensor | None,
    block: Block,
    shape: ConvShape,
    slicing: Slicing,
    layout: Layout,
) -> None:
    """Add up a block's products in `place`: [K, columns], one of whose strides is 1."""
    of_group, of_row = shape.filters // shape.groups, filters.shape[2] // shape.kernel[0]
    columns = _columns(shape, block)
    in_row = columns // block.counts[1]
    depth = len(slicing.remainders) * of_row
    across = in_row * (block.counts[1] + slicing.halo)
    every = buffer[: shape.groups * depth * across]
    if layout == "nchw":
        windows = every.view(shape.groups, depth, across)
    else:
        windows = every.view(shape.groups, across, depth).transpose(1, 2)
    for group in range(shape.groups):
        own = slice(group * of_group, (group + 1) * of_group)
        sums = place[own]
        for i, product in enumerate(slicing.products):
            left = filters[group, :, product.first * of_row : product.last * of_row]
            taken = product.last - product.first
            right = windows[
                group,
                product.slot * of_row : (product.slot + taken) * of_row,
                product.start * in_row : product.start * in_row + columns,
            ]
            if i:
                torch.addmm(sums, left, right, out=sums)
            elif bias is None:
                torch.mm(left, right, out=sums)
            else:
                torch.addmm(bias[own, None], left, right, out=sums)


def empty_output(pictures: Tensor, shape: ConvShape) -> Tensor:
    """Memory for [N, K, Ho, Wo], channels last where the pictures' are."""
    last = pictures.is_contiguous(memory_format=torch.channels_last)
    last = last and not pictures.is_contiguous()
    return torch.empty(
        (shape.batch, shape.filters, *shape.output),
        dtype=pictures.dtype,
        device=pictures.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


def _in_place(target: Tensor, block: Block) -> Tensor | None:
    """The output's own memory as [K, columns], where one picture's rows lie behind each other."""
    count, rows = block.counts
    _, channel, row, column = target.stride()
    width = target.shape[3]
    if count != 1 or (rows > 1 and row != width * column) or 1 not in (channel, column):
        return None
    return target[block.pictures[0], :, slice(*block.rows)].as_strided(
        (target.shape[1], rows * width), (channel, column)
    )


def _apart(scratch: Tensor, target: Tensor, columns: int) -> Tensor:
    """[K, columns] in the output's order of channels and places."""
    filters = target.shape[1]
    taken = scratch[: filters * columns]
    if target.stride(1) == 1:
        return taken.view(columns, filters).T
    return taken.view(filters, columns)


def _columns(shape: ConvShape, block: Block) -> int:
    count, rows = block.counts
    return count * rows * shape.output[1]


def _rows_of(pictures: Tensor, block: Block, shape: ConvShape) -> tuple[Tensor, int]:
    """The padded rows that a block's windows reach over, [n, C, rows, W]; how many they are."""
    (above, beside), height = shape.padding, shape.size[0]
    first = block.rows[0] * shape.stride[0] - above
    beyond = (block.rows[1] - 1) * shape.stride[0] - above + shape.extent[0]
    inside = (min(max(first, 0), height), min(max(beyond, 0), height))
    rows = pictures[slice(*block.pictures), :, slice(*inside)]
    before, behind = max(0, min(-first, beyond - first)), max(0, beyond - max(height, first))
    if beside or before or behind:
        rows = F.pad(rows, (beside, beside, before, behind))
    return rows, beyond - first


def _windows(
    buffer: Tensor, block: Block, shape: ConvShape, slicing: Slicing, layout: Layout
) -> Tensor:
    """[G, slot, c, v, q, n, wo], whatever the order in memory."""
    count, rows = block.counts
    slots, across = len(slicing.remainders), (rows + slicing.halo, count, shape.output[1])
    each = shape.channels // shape.groups
    size = shape.groups * slots * each * shape.kernel[1] * across[0] * count * across[2]
    if layout == "nchw":
        return buffer[:size].view(shape.groups, slots, each, shape.kernel[1], *across)
    last = buffer[:size].view(shape.groups, *across, slots, shape.kernel[1], each)
    return last.permute(0, 4, 6, 5, 1, 2, 3)
