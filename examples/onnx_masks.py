"""Masks from an exported subnet; it needs numpy, pillow and onnxruntime, nothing else.

    supersam export KEY --to onnx --into model
    python examples/onnx_masks.py model picture.jpg 40 60 200 180 --save mask.png

`model/model.json` says what the two ONNX files take and give.
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, help="a folder that supersam export wrote")
    parser.add_argument("picture", type=Path)
    parser.add_argument("box", type=float, nargs=4, help="x0 y0 x1 y1, pixels")
    parser.add_argument("--save", type=Path, default=Path("mask.png"))
    given = parser.parse_args()

    about = json.loads((given.model / "model.json").read_text())
    files = [given.model / about[part]["file"] for part in ("encoder", "decoder")]
    encoder, decoder = (onnxruntime.InferenceSession(file) for file in files)
    picture = Image.open(given.picture).convert("RGB")
    pixels, scale = preprocess(picture, about)
    (embedding,) = encoder.run(None, {"images": pixels})
    prompts = {
        "point_coords": np.float32(np.reshape(given.box, (1, 2, 2)) * scale),
        "point_labels": np.float32([[2, 3]]),  # a box's upper left and lower right corner
        "mask_input": np.zeros((1, *about["decoder"]["inputs"]["mask_input"][1:]), np.float32),
        "has_mask_input": np.float32([0]),
        "orig_im_size": np.float32([picture.height, picture.width]),
    }
    masks, scores, _ = decoder.run(None, {"image_embeddings": embedding, **prompts})
    best = 1 + scores[0, 1:].argmax()
    mask = masks[0, best] > about["mask_threshold"]
    Image.fromarray(np.uint8(mask * 255)).save(given.save)
    print(f"{mask.mean():.1%} of the picture, predicted IoU {scores[0, best]:.3f}: {given.save}")


if __name__ == "__main__":
    main()
