"""What the tests of pruning studies share: a small network of one's own, its weights, pictures."""

from pathlib import Path

import numpy as np
from reading import save
from safetensors.torch import save_file

from automl.channel_pruning.config import PruningConfig, check_config
from automl.config_reading import read_values
from trainables.channel_pruning.networks import find_network

OWN = """
from trainables.channel_pruning.cifar_resnet import CifarResNet, CifarResNetConfig


def small(classes):
    return CifarResNet(CifarResNetConfig(1, width=8), classes)
"""
CLASSES = ("blue", "green", "red")
SIZE = 16
SMALL = [
    "family=channel_pruning",
    f"image_size={SIZE}",
    "masks.batch_size=8",
    "masks.checkpoint_every=2",
    "masks.augment.shift=1",
    "tuning.batch_size=8",
    "tuning.recalibration=2",
    "tuning.checkpoint_every=2",
    "tuning.augment.shift=1",
    "designs.trials=1",
    "designs.steps=2",
    "designs.evaluations=2",
    "designs.space.prompt_size=[2]",
    "designs.space.hidden=[8]",
    "search.shares=[0.7,0.4]",
    "search.allocations=[global]",
    "search.tuning_steps=1",
    "final.steps=4",
    "final.evaluations=2",
    "final.tuning_steps=4",
]


def write_pictures(folder: Path, count: int = 30) -> Path:
    """A folder a class of PNG files: noise, with more of the class's colour."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(reversed(CLASSES)):
        for i in range(count):
            pixels = rng.integers(0, 150, (SIZE, SIZE, 3))
            pixels[:, :, number] += 80
            save(folder / name / f"{i:02d}.png", pixels.astype(np.uint8))
    return folder


def write_network(folder: Path, code: str = OWN, classes: int = len(CLASSES)) -> list[str]:
    """A network of one's own with random weights; returns the overrides that name it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "own.py"
    file.write_text(code)
    network = find_network(f"{file}:small")(classes)
    save_file(network.state_dict(), folder / "small.safetensors")
    return [f"network={file}:small", f"weights={folder / 'small.safetensors'}"]


def small_study(folder: Path) -> list[str]:
    """All overrides of a small study whose inputs are written into a folder."""
    pictures = write_pictures(folder / "pictures")
    return [*SMALL, *write_network(folder), f"data={pictures}"]


def config_of(*overrides: str) -> PruningConfig:
    """A configuration of nothing but overrides; data and weights need not be there."""
    values, where = read_values(None, ["data=x", "weights=y", *SMALL, *overrides])
    return check_config(values, where)
