"""A data set of your own: pictures, label maps, and a small study on them.

    python examples/own_data.py

It draws pictures of ellipses, since it has none. Yours go into the same two folders:
images/NAME.png and labels/NAME.png, a map of the same size in which 0 is background and each object
has a number.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from automl import Study, load_config

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def draw(rng: np.random.Generator, size: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """A picture [H, W, 3] of four ellipses, and its label map [H, W]."""
    pixels, labels = rng.integers(0, 80, (size, size, 3)), np.zeros((size, size))
    y, x = np.mgrid[:size, :size]
    for number in range(1, 5):
        middle, radii = rng.uniform(30, size - 30, 2), rng.uniform(10, 30, 2)
        inside = ((y - middle[0]) / radii[0]) ** 2 + ((x - middle[1]) / radii[1]) ** 2 < 1
        labels[inside] = number
        pixels[inside] = rng.integers(100, 250, 3) + rng.integers(-20, 5, 3)
    return pixels.astype(np.uint8), labels.astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--pictures", type=int, default=80)
    parser.add_argument("--output", type=Path, default=Path("runs/own_data"))
    given = parser.parse_args()

    folder = given.output / "pictures"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(given.pictures):
        pixels, labels = draw(np.random.default_rng(i))
        Image.fromarray(pixels).save(folder / "images" / f"{i:03}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{i:03}.png")

    study = Study(load_config(CONFIG, [f"data={folder}", *given.overrides]), given.output / "study")
    for row in study.run().front:
        print(f"{row['subnet']}: {row['encoder_macs']:,} MACs, mIoU {row['miou_test']:.3f}")


if __name__ == "__main__":
    main()
