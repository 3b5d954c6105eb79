"""The twelve layers that im2win's authors measure (arXiv 2306.14320 and 2306.14316)."""

from search_spaces.conv_shape import ConvShape

_SIDES = {
    "conv1": (3, 227, 96, 11, 4),
    "conv2": (3, 231, 96, 11, 4),
    "conv3": (3, 227, 64, 7, 2),
    "conv4": (64, 224, 64, 7, 2),
    "conv5": (96, 24, 256, 5, 1),
    "conv6": (256, 12, 512, 3, 1),
    "conv7": (3, 224, 64, 3, 1),
    "conv8": (64, 112, 128, 3, 1),
    "conv9": (64, 56, 64, 3, 1),
    "conv10": (128, 28, 128, 3, 1),
    "conv11": (256, 14, 256, 3, 1),
    "conv12": (512, 7, 512, 3, 1),
}
LAYERS = tuple(_SIDES)
"""Their names. None has padding. `conv4` has 64 channels, as in the authors' CPU benchmark."""


def paper_layer(name: str, batch: int) -> ConvShape:
    """One of `LAYERS`; the authors' batch is 128."""
    channels, side, filters, kernel, stride = _SIDES[name]
    return ConvShape(
        batch, channels, (side, side), filters, (kernel, kernel), stride=(stride, stride)
    )
