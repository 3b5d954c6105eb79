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

import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces.conv_plan import ConvPlan, Layout
from search_spaces.conv_shape import ConvShape
from trainables.convolution.slicing import Block, Product, Slicing, blocks_of, slicing_of

PIECE_BYTES = 1 << 19
"""Of filters that are put in order at a time, where not all are at once."""


@dataclass(frozen=True)
class Filters:
    """A convolution's filters in the order of the windows, as a whole or as they are needed.

    Args:
        split: [G, K / G, C / G, kh, kw], a view of the weight.
        layout: of the windows.
        whole: all of them [G, K / G, kh, n] in order; None: they are put in order piece by piece.
    """

    split: Tensor
    layout: Layout
    whole: Tensor | None

    def pieces(self, group: int, product: Product) -> Iterator[tuple[int, Tensor]]:
        """The first filter of each piece, and the piece [filters, depth of the product]."""
        rows = slice(product.first, product.last)
        if self.whole is not None:
            yield 0, self.whole[group, :, rows].flatten(1)
            return
        of_group, channels, _, width = self.split.shape[1:]
        depth = channels * width * (product.last - product.first)
        count = max(1, PIECE_BYTES // (depth * self.split.element_size()))
        for first in range(0, of_group, count):
            piece = self.split[group, first : first + count, :, rows]
            yield first, _in_order(piece, self.layout).flatten(1)


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
    buffer = windows_buffer(pictures, shape, slicing, plan)
    filters = filters_of(weight, buffer, shape, plan.layout)
    scratch: Tensor | None = None
    for block in blocks_of(shape, slicing, plan, pictures.element_size()):
        fill_windows(buffer, pictures, block, shape, slicing, plan.layout)
        sums = _in_place(target, block)
        if sums is not None:
            multiply(sums, filters, buffer, bias, block, shape, slicing)
            continue
        if scratch is None:  # the first block is the largest
            scratch = target.new_empty(shape.filters * _columns(shape, block))
        sums = _apart(scratch, target, _columns(shape, block))
        multiply(sums, filters, buffer, bias, block, shape, slicing)
        (count, rows), part = block.counts, target[slice(*block.pictures), :, slice(*block.rows)]
        part.copy_(sums.unflatten(1, (rows, count, -1)).permute(2, 0, 1, 3))
    return output


def filters_of(weight: Tensor, buffer: Tensor, shape: ConvShape, layout: Layout) -> Filters:
    """Filters put in order at once where they and the buffer are below half of im2col's windows.

    Else, with few small pictures, they would be all that was saved. With the layout `nhwc`, a
    weight that is stored with channels last is in order as it is.
    """
    split: Tensor = weight.unflatten(0, (shape.groups, -1))
    columns = shape.macs // shape.filters * shape.groups
    whole = weight.numel() + buffer.numel() <= columns // 2
    return Filters(split, layout, _in_order(split, layout).flatten(3) if whole else None)


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
    filters: Filters,
    buffer: Tensor,
    bias: Tensor | None,
    block: Block,
    shape: ConvShape,
    slicing: Slicing,
) -> None:
    """Add up a block's products in `place`: [K, columns], one of whose strides is 1."""
    of_group = shape.filters // shape.groups
    of_row = shape.channels // shape.groups * shape.kernel[1]
    columns = _columns(shape, block)
    in_row = columns // block.counts[1]
    depth = len(slicing.remainders) * of_row
    across = in_row * (block.counts[1] + slicing.halo)
    every = buffer[: shape.groups * depth * across]
    if filters.layout == "nchw":
        windows = every.view(shape.groups, depth, across)
    else:
        windows = every.view(shape.groups, across, depth).transpose(1, 2)
    for group in range(shape.groups):
        for product in slicing.products:
            depth_of = product.slot * of_row, (product.slot + product.last - product.first) * of_row
            across_of = product.start * in_row, product.start * in_row + columns
            right = windows[group, slice(*depth_of), slice(*across_of)]
            for first, left in filters.pieces(group, product):
                begin = group * of_group + first
                own = slice(begin, begin + len(left))
                sums = place[own]
                if product.first:
                    torch.addmm(sums, left, right, out=sums)
                elif bias is None:
                    torch.mm(left, right, out=sums)
                else:
                    torch.addmm(bias[own, None], left, right, out=sums)
                del left  # before the next piece is made


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


def _in_order(filters: Tensor, layout: Layout) -> Tensor:
    """[…, C, kh, kw] to […, kh, C, kw] or […, kh, kw, C]: a row's numbers as windows have them."""
    return filters.transpose(-3, -2) if layout == "nchw" else filters.movedim(-3, -1)


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
