"""Masks from an exported subnet; it needs numpy, pillow and onnxruntime, nothing else.

    supersam export KEY --to onnx --into model
    python examples/onnx_masks.py model picture.jpg 40 60 200 180 --save mask.png

Four numbers are a box, two a point. `model/model.json` says what the two ONNX files take and give.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def preprocess(picture, about):
    """The encoder's input [1, 3, S, S], and by what the picture was scaled."""
    scale = about["image_size"] / max(picture.size)
    size = [int(side * scale + 0.5) for side in picture.size]
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
    pixels = (pixels - np.float32(about["pixel_mean"])) / np.float32(about["pixel_std"])
    padding = [(0, about["image_size"] - side) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, [*padding, (0, 0)])
    return pixels.transpose(2, 0, 1)[None], np.array(size) / picture.size


def load(folder):
    """What `model.json` says, the encoder and the decoder."""
    about = json.loads((folder / "model.json").read_text())
    files = [folder / about[part]["file"] for part in ("encoder", "decoder")]
    return about, *(onnxruntime.InferenceSession(file) for file in files)


def segment(model, picture, prompt):
    """The mask [height, width] of what a box or a point prompts, and the IoU predicted for it."""
    about, encoder, decoder = model
    pixels, scale = preprocess(picture, about)
    (embedding,) = encoder.run(None, {"images": pixels})
    corners = np.float32(np.reshape(prompt, (1, -1, 2)) * scale)
    box = len(prompt) == 4
    coords = corners if box else np.concatenate([corners, np.zeros((1, 1, 2), np.float32)], axis=1)
    prompts = {
        "point_coords": coords,
        # Upper left and lower right corner of a box; a point on the object, with nothing beside it.
        "point_labels": np.float32([[2, 3] if box else [1, -1]]),
        "mask_input": np.zeros((1, *about["decoder"]["inputs"]["mask_input"][1:]), np.float32),
        "has_mask_input": np.float32([0]),
        "orig_im_size": np.float32([picture.height, picture.width]),
    }
    masks, scores, _ = decoder.run(None, {"image_embeddings": embedding, **prompts})
    best = 1 + scores[0, 1:].argmax()
    return masks[0, best] > about["mask_threshold"], scores[0, best]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, help="a folder that supersam export wrote")
    parser.add_argument("picture", type=Path)
    parser.add_argument("prompt", type=float, nargs="+", help="x0 y0 x1 y1, or x y, pixels")
    parser.add_argument("--save", type=Path, default=Path("mask.png"))
    given = parser.parse_args()
    if len(given.prompt) not in (2, 4):
        parser.error("the prompt is x0 y0 x1 y1 or x y")

    picture = Image.open(given.picture).convert("RGB")
    mask, score = segment(load(given.model), picture, given.prompt)
    Image.fromarray(np.uint8(mask * 255)).save(given.save)
    print(f"{mask.mean():.1%} of the picture, predicted IoU {score:.3f}: {given.save}")


if __name__ == "__main__":
    main()
