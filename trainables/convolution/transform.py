"""The window tensor of im2win: windows that overlap along the width share what they have in common.

Of I [N, C, H, W] and a kernel of kh × kw with the stride s, im2col writes every window down in
full, kh·kw·Ho·Wo numbers a channel. Im2win unrolls the height alone,

    I'[n, c, ho, w·kh + u] = I[n, c, ho·s + u, w],        u < kh,

kh·Ho·W numbers a channel: W / (kw·Wo) as many, about s / kw. The window of (ho, wo) is the run of
kh·kw numbers from wo·s·kh on; the next one begins s·kh numbers later. With channels behind places
(`nhwc`) it is one run of kh·kw·C numbers.

Lu, Chu, Liu: Im2win (arXiv 2306.14320); Lu, Chu, Guo, Liu: Im2win on GPU (arXiv 2306.14316).
"""

from torch import Tensor
from torch.nn import functional as F

from search_spaces.conv_plan import Layout
from search_spaces.conv_shape import ConvShape


def im2win(pictures: Tensor, shape: ConvShape, layout: Layout = "nchw") -> Tensor:
    """The window tensor, contiguous: one copy, and one more of the pictures where they are padded.

    Rows and columns are those of the padded pictures: W is W + 2p.

    Args:
        pictures: [N, C, H, W].
        shape: of the convolution; its width's kernel, stride and dilation change nothing here.
        layout: where channels are.

    Returns:
        nchw: [G, N, C / G, Ho, W · kh]; nhwc: [G, N, Ho, W · kh, C / G], for G groups of channels.
        With one group this is the paper's tensor.
    """
    padding = shape.padding
    if any(padding):
        pictures = F.pad(pictures, (padding[1], padding[1], padding[0], padding[0]))
    split: Tensor = pictures.unflatten(1, (shape.groups, -1))
    picture, group, channel, row, column = split.stride()
    height, kernel = shape.output[0], shape.kernel[0]
    windows = split.as_strided(
        (shape.groups, shape.batch, split.shape[2], height, split.shape[4], kernel),
        (group, picture, channel, shape.stride[0] * row, column, shape.dilation[0] * row),
    )
    if layout == "nchw":
        return windows.contiguous().flatten(4)
    return windows.permute(0, 1, 3, 4, 5, 2).contiguous().flatten(3, 4)


def im2win_filters(weight: Tensor, shape: ConvShape, layout: Layout = "nchw") -> Tensor:
    """Filters in the order of a window: F'[g, k, c, v·kh + u], or F'[g, k, v·kh + u, c].

    Args:
        weight: [K, C / G, kh, kw].
        shape: of the convolution.
        layout: of the window tensor.

    Returns:
        [G, K / G, kh · kw · C / G], contiguous.
    """
    split = weight.unflatten(0, (shape.groups, -1))
    order = (0, 1, 2, 4, 3) if layout == "nchw" else (0, 1, 4, 3, 2)
    ordered: Tensor = split.permute(order).flatten(2).contiguous()
    return ordered
