"""What the tests share: a tiny SAM, a space of its subnets, synthetic pictures."""

import dataclasses
import io
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from search_spaces import Subnet, SubnetSpace
from trainables.data.batches import Batch
from trainables.data.prompts import Prompts
from trainables.data.reader import AnnotatedObject
from trainables.data.readers.masks import rle_of
from trainables.data.table import SCHEMA, RowWriter, object_rows
from trainables.sam.decoder import decode_masks, encode_prompts
from trainables.sam.family import EncoderConfig
from trainables.sam.losses import segmentation_loss
from trainables.sam.models import build_sam
from trainables.sam.segment_anything_import import Sam
from trainables.sam.supernet import Supernet
from trainables.sam.vit import ViTConfig

# A grid of 4×4 tokens with windows of 3×3: windows are padded.
CONFIG = ViTConfig(
    image_size=64,
    mlp_widths=(128,) * 4,
    embed_dim=32,
    num_heads=2,
    global_layers=(1, 3),
    window_size=3,
)
SPACE = SubnetSpace(
    ((32, 64, 128), (16, 128), (64, 128), (128,)), drop_probabilities=(0.5, 0.0, 0.25, 0.3)
)
# The same with four heads, and a space in which they are elastic.
HEADED_CONFIG = dataclasses.replace(CONFIG, num_heads=4)
HEADED_SPACE = dataclasses.replace(SPACE, heads=((1, 2, 4), (2, 3, 4), (1, 4), (4,)))
SIZES = ((64, 64), (48, 80), (90, 60), (100, 100), (57, 121), (33, 40))


@torch.no_grad()
def tiny_sam(seed: int = 0, config: EncoderConfig = CONFIG) -> Sam:
    """Every encoder parameter is random, the position tables and norms too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = build_sam(config)
    rng = torch.Generator().manual_seed(seed)
    for name, p in sam.image_encoder.named_parameters():
        p += torch.randn(p.shape, generator=rng) * (0.3 if "pos" in name else 0.05)
    return sam


def random_subnets(count: int, space: SubnetSpace = SPACE, seed: int = 0) -> list[Subnet]:
    """Distinct subnets, largest and smallest among them."""
    rng = random.Random(seed)
    found = dict.fromkeys([space.largest, space.smallest])
    while len(found) < count:
        found[space.sample(rng)] = None
    return list(found)


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch_loss(supernet: Supernet, batch: Batch, subnet: Subnet) -> Tensor:
    """The mean over pictures of a subnet's loss."""
    embeddings = supernet(batch.pictures, subnet)
    losses = []
    for embedding, targets, prompts in zip(embeddings, batch.targets, batch.prompts, strict=True):
        encoded = encode_prompts(supernet.sam, prompts)
        logits, ious = decode_masks(supernet.sam, embedding[None], encoded)
        losses.append(segmentation_loss(logits, ious, targets, prompts))
    return torch.stack(losses).mean()


def labelled(pictures: Tensor) -> Batch:
    """Pictures [B, 3, S, S] with two objects in each, asked for with boxes and points in turn."""
    side = pictures.shape[-1]
    targets = torch.zeros(2, side, side)
    targets[0, : side // 2, : side // 3] = 1
    targets[1, side // 4 :, side // 2 :] = 1
    boxes = torch.tensor([[0, 0, side // 3, side // 2], [side // 2, side // 4, side, side]])
    points = torch.tensor([[[2, 3]], [[side - 4, side - 2]]])
    asked = (Prompts(boxes=boxes.float()), Prompts(points=points.float()))
    return Batch(pictures, [targets] * len(pictures), [asked[i % 2] for i in range(len(pictures))])


def synthetic_picture(
    rng: np.random.Generator, height: int, width: int, objects: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Noise with bright discs, each in a cell of its own: RGB pixels and the label map."""
    pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    labels = np.zeros((height, width), dtype=np.uint8)
    columns = math.ceil(math.sqrt(objects))
    rows = math.ceil(objects / columns)
    y, x = np.mgrid[:height, :width]
    for number in range(objects):
        row, column = divmod(number, columns)
        radius = rng.uniform(0.3, 0.48) * min(height / rows, width / columns)
        cy, cx = (row + 0.5) * height / rows, (column + 0.5) * width / columns
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        labels[disc] = number + 1
        pixels[disc] = rng.integers(120, 255, 3)
    return pixels, labels


def write_label_maps(folder: Path, names: list[str], seed: int = 0) -> None:
    """A data set of synthetic pictures of several sizes: `images/NAME.png`, `labels/NAME.png`."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        rng = np.random.default_rng([seed, i])
        pixels, labels = synthetic_picture(rng, *SIZES[i % len(SIZES)], objects=1 + i % 3)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{name}.png")


def write_split(path: Path, pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    """A prepared split of the given pixels and label maps."""
    with path.open("wb") as file, RowWriter(file) as writer:
        for i, (pixels, labels) in enumerate(pictures):
            row = picture_row(f"p{i}", pixels, labels, first_id=1000 * i)
            writer.add(pa.Table.from_pylist([row], schema=SCHEMA), len(row["image"]))
        writer.close()


def picture_row(
    name: str, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], first_id: int = 0
) -> dict[str, Any]:
    """A row of the Parquet layout."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "png")
    objects = [
        AnnotatedObject(first_id + int(n), "object", rle_of(labels == n))
        for n in np.unique(labels)
        if n
    ]
    height, width = labels.shape
    row = {"id": name, "image": encoded.getvalue(), "height": height, "width": width}
    return {**row, "objects": object_rows(objects)}
