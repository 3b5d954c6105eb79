"""The Triton kernel: a convolution as one matrix product over im2win's window tensor.

Needs Triton; everything else does not import this.

    O[k, (n, ho, wo)] = Σ_d F'[k, d] · I'[(n, ho, wo), d]

where d runs through a window in the order of its memory. A program computes a tile of filters ×
windows, of one group; what lies beyond filters, windows or the depth is masked. Sums are float32.
"""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def im2win_kernel(  # type: ignore[no-untyped-def]
    windows,
    filters,
    bias,
    output,
    filter_count,
    window_count,
    depth,
    kernel_height,
    kernel_width,
    channels,
    out_height,
    out_width,
    column_step,
    column_dilation,
    w_group,
    w_picture,
    w_channel,
    w_row,
    w_column,
    w_unrolled,
    o_picture,
    o_channel,
    o_row,
    o_column,
    CHANNELS_LAST: tl.constexpr,
    DILATED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
    FILTERS: tl.constexpr,
    WINDOWS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """One tile [FILTERS, WINDOWS] of the output.

    Args:
        windows: I', its strides w_*; w_unrolled is between the kernel_height numbers of a column.
        filters: F' [G, filter_count, depth], contiguous.
        bias: [G · filter_count], or anything where HAS_BIAS is false.
        output: [N, G · filter_count, Ho, Wo], its strides o_*.
        filter_count: of a group.
        window_count: N · Ho · Wo.
        depth: channels · kernel_height · kernel_width.
        kernel_height: numbers of a column.
        kernel_width: columns of a window.
        channels: of a group.
        out_height: Ho.
        out_width: Wo.
        column_step: columns from one window to the next, the stride.
        column_dilation: columns from one of a window to its next.
        DILATED: whether column_dilation is more than 1.
        WIDEN: multiply in float32, whatever the type; exact for 16 bits.
    """
    group = tl.program_id(2)
    k = tl.program_id(0) * FILTERS + tl.arange(0, FILTERS)
    window = tl.program_id(1) * WINDOWS + tl.arange(0, WINDOWS)
    in_filters = k < filter_count
    in_windows = window < window_count
    wo = window % out_width
    ho = (window // out_width) % out_height
    n = (window // (out_width * out_height)).to(tl.int64)
    first = group.to(tl.int64) * w_group + n * w_picture + ho * w_row + wo * column_step * w_column
    filter_rows = (group * filter_count + k).to(tl.int64) * depth
    # Not tl.zeros, a kernel itself, which is not interpreted where Triton was imported before.
    sums = tl.full((FILTERS, WINDOWS), 0.0, dtype=tl.float32)
    for start in range(0, depth, DEPTH):
        d = start + tl.arange(0, DEPTH)
        in_depth = d < depth
        if not DILATED and CHANNELS_LAST:
            inside = d  # a window is one run
        elif not DILATED:
            of_channel = kernel_height * kernel_width
            inside = (d // of_channel).to(tl.int64) * w_channel + d % of_channel
        else:
            if CHANNELS_LAST:
                c = d % channels
                u = (d // channels) % kernel_height
                v = d // (channels * kernel_height)
            else:
                u = d % kernel_height
                v = (d // kernel_height) % kernel_width
                c = d // (kernel_height * kernel_width)
            inside = c.to(tl.int64) * w_channel + v * column_dilation * w_column + u * w_unrolled
        left = tl.load(
            filters + filter_rows[:, None] + d[None, :],
            mask=in_filters[:, None] & in_depth[None, :],
            other=0.0,
        )
        right = tl.load(
            windows + first[None, :] + inside[:, None],
            mask=in_depth[:, None] & in_windows[None, :],
            other=0.0,
        )
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        sums = tl.dot(left, right, sums, input_precision=PRECISION)
    channel = group * filter_count + k
    if HAS_BIAS:
        sums += tl.load(bias + channel, mask=in_filters, other=0.0)[:, None].to(tl.float32)
    place = n * o_picture + ho * o_row + wo * o_column
    tl.store(
        output + channel.to(tl.int64)[:, None] * o_channel + place[None, :],
        sums.to(output.dtype.element_ty),
        mask=in_filters[:, None] & in_windows[None, :],
    )
