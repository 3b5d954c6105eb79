"""How far an exported model is from the model itself, on a real picture."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.prompts import Prompts
from trainables.sam.export import interfaces
from trainables.sam.exported import Run, as_points, ask, with_nothing
from trainables.sam.segment_anything_import import ResizeLongestSide, Sam

TOLERANCE = 1e-3
"""How far an output may be from the model's own: |exported − own| / max(1, |own|)."""

# Shares of the picture's width and height.
BOXES = ((0.1, 0.1, 0.6, 0.5), (0.3, 0.2, 0.9, 0.9), (0.0, 0.4, 0.5, 1.0))
POINTS = ((0.4, 0.5), (0.8, 0.2))
LABELS = (1.0, 0.0)


@torch.no_grad()
def differences(run: Run, sam: Sam, pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Compare all that an exported model can be asked with segment_anything's own modules.

    The encoder is given the picture and its mirror image together, then the picture alone; the
    decoder three boxes at once, then two points with the mask of an earlier answer.

    Args:
        run: the exported model.
        sam: the model itself, on the CPU.
        pixels: RGB, [H, W, 3].

    Returns:
        The largest |exported − own| / max(1, |own|) by the output's name.
    """
    size = pixels.shape[0], pixels.shape[1]
    side: int = sam.image_encoder.img_size
    resized = torch.from_numpy(ResizeLongestSide(side).apply_image(pixels)).permute(2, 0, 1)
    picture = sam.preprocess(resized[None])
    both = torch.cat([picture, picture.flip(-1)])
    own = sam.image_encoder(both)
    found = {
        "image_embeddings": max(
            _difference(run("encoder", [both])[0], own),
            _difference(run("encoder", [picture])[0], own[:1]),
        )
    }
    scale = torch.tensor([resized.shape[2], resized.shape[1]]).float()
    boxes = torch.tensor(BOXES) * scale.repeat(2)
    coords, labels = torch.tensor([POINTS]) * scale, torch.tensor([LABELS])
    embedding = own[:1]

    boxed = _answers(sam, embedding, size, boxes=boxes)
    earlier = boxed[2][:1, :1]
    pointed = _answers(sam, embedding, size, points=(coords, labels), masks=earlier)
    theirs = (
        ask(run, embedding, as_points(Prompts(boxes=boxes)), size),
        ask(run, embedding, with_nothing(coords, labels), size, earlier),
    )
    for i, name in enumerate(interfaces(side)["decoder"].outputs):
        pairs = zip(theirs, (boxed, pointed), strict=True)
        found[name] = max(_difference(their[i], our[i]) for their, our in pairs)
    return found


def _answers(sam: Sam, embedding: Tensor, size: tuple[int, int], **prompts: Any) -> list[Tensor]:
    """The decoder's outputs, by segment_anything's own modules."""
    asked = {"points": None, "boxes": None, "masks": None, **prompts}
    sparse, dense = sam.prompt_encoder(**asked)
    positions = sam.prompt_encoder.get_dense_pe()
    low, ious = sam.mask_decoder.predict_masks(embedding, positions, sparse, dense)
    shrunk = ResizeLongestSide.get_preprocess_shape(*size, sam.image_encoder.img_size)
    return [sam.postprocess_masks(low, shrunk, size), ious, low]


def _difference(found: Tensor, own: Tensor) -> float:
    if found.shape != own.shape:
        return float("inf")
    return float(((found - own).abs() / own.abs().clamp(min=1)).max())
