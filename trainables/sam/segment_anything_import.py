"""The one place that imports `segment_anything`, with or without a working torchvision.

`segment_anything` needs four small functions of torchvision. Where torchvision is missing, or was
built for another torch, stand-ins take their place during the import; nothing else is changed.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _to_pil_image(picture: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(picture)


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Greedy non-maximum suppression within each group of equal `idxs`; indices by score."""
    order = scores.argsort(descending=True, stable=True)
    areas = _box_area(boxes)
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        low = torch.maximum(boxes[first, :2], boxes[order, :2])
        high = torch.minimum(boxes[first, 2:], boxes[order, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        iou = shared / (areas[first] + areas[order] - shared)
        order = order[~(iou > iou_threshold) | (idxs[order] != idxs[first])]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)


def _forget_torchvision() -> None:
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


def _stand_ins() -> dict[str, ModuleType]:
    names = ["", ".ops", ".ops.boxes", ".transforms", ".transforms.functional"]
    modules = {f"torchvision{name}": ModuleType(f"torchvision{name}") for name in names}
    functional: Any = modules["torchvision.transforms.functional"]
    functional.resize, functional.to_pil_image = _resize, _to_pil_image
    boxes: Any = modules["torchvision.ops.boxes"]
    boxes.batched_nms, boxes.box_area = _batched_nms, _box_area
    return modules


def _import_segment_anything() -> ModuleType:
    try:
        importlib.import_module("torchvision.ops.boxes")
        importlib.import_module("torchvision.transforms.functional")
        return importlib.import_module("segment_anything")
    except Exception:  # a torchvision built for another torch raises RuntimeError, not ImportError
        _forget_torchvision()
    for name in [n for n in sys.modules if n.split(".")[0] == "segment_anything"]:
        del sys.modules[name]
    sys.modules.update(_stand_ins())
    try:
        return importlib.import_module("segment_anything")
    finally:
        _forget_torchvision()


_import_segment_anything()

# Imported after the stand-ins had their turn, hence not at the top.
from segment_anything import SamAutomaticMaskGenerator, SamPredictor  # noqa: E402
from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.modeling.common import LayerNorm2d, MLPBlock  # noqa: E402
from segment_anything.modeling.image_encoder import (  # noqa: E402
    Attention,
    Block,
    get_rel_pos,
    window_partition,
    window_unpartition,
)
from segment_anything.utils.transforms import ResizeLongestSide  # noqa: E402

__all__ = [
    "Attention",
    "Block",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MLPBlock",
    "MaskDecoder",
    "PromptEncoder",
    "ResizeLongestSide",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "TwoWayTransformer",
    "get_rel_pos",
    "window_partition",
    "window_unpartition",
]
