"""What the tests of channel pruning share: small networks of every kind, random pictures."""

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from trainables.channel_pruning.cifar_resnet import CifarResNet, CifarResNetConfig
from trainables.channel_pruning.data.image_set import ImageSet
from trainables.channel_pruning.networks import build_network
from trainables.channel_pruning.resnet import ResNet, ResNetConfig
from trainables.channel_pruning.vgg import VGG, VGGS, VGGConfig

CLASSES = 5
SMALL = {
    "cifar": lambda: CifarResNet(CifarResNetConfig(2, width=8), CLASSES),
    "basic": lambda: ResNet(ResNetConfig("basic", (2, 1, 1, 1), 8), CLASSES),
    "bottleneck": lambda: ResNet(ResNetConfig("bottleneck", (1, 2, 1, 1), 8), CLASSES),
    "vgg": lambda: VGG(VGGConfig(((8, 8), (16,), (16,)), hidden=24, pooled=2), CLASSES),
    "vgg_bn": lambda: VGG(
        VGGConfig(((8, 8), (16,), (16,)), hidden=24, pooled=2, batch_norm=True), CLASSES
    ),
}
# The networks themselves; VGG with narrower linear layers, which hold half a gigabyte of weights.
WHOLE = {
    **{
        name: lambda name=name: build_network(name, CLASSES)
        for name in ("resnet20", "resnet56", "resnet18", "resnet34", "resnet50")
    },
    **{
        name: lambda config=config: VGG(dataclasses.replace(config, hidden=96, pooled=2), CLASSES)
        for name, config in VGGS.items()
    },
}


@torch.no_grad()
def network_of(name: str, seed: int = 0) -> nn.Module:
    """In eval mode; norms have random weights and statistics, as trained ones have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (SMALL | WHOLE)[name]()
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=rng) + 0.5)
            for tensor in (module.bias, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=rng) * 0.3)
    return network.eval()


def pictures(count: int = 4, size: int = 32, seed: int = 0) -> Tensor:
    """Random, normalised: [count, 3, size, size]."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def random_kept(groups, seed: int = 0, share: float = 0.6) -> dict[str, tuple[int, ...]]:
    """Of each group some channels, by chance."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in groups:
        count = max(1, int(group.channels * rng.uniform(share - 0.3, share + 0.3)))
        kept[group.name] = tuple(sorted(rng.permutation(group.channels)[:count].tolist()))
    return kept


def masks_of(groups, kept) -> list[Tensor]:
    """1 for channels that stay."""
    masks = []
    for group in groups:
        mask = torch.zeros(group.channels)
        mask[list(kept[group.name])] = 1
        masks.append(mask)
    return masks


def coloured_images(count: int = 60, size: int = 16, seed: int = 0) -> ImageSet:
    """Noise whose colour and brightness say the class: a small network learns it in some steps."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = rng.integers(0, 120, (count, size, size, 3))
    for i, label in enumerate(labels):
        pixels[i, :, :, label % 3] += 60 + 70 * (int(label) // 3)
    pixels = pixels.clip(0, 255).astype(np.uint8)
    classes = tuple(f"class-{i}" for i in range(CLASSES))
    names = tuple(f"{i}.png" for i in range(count))
    return ImageSet(classes, labels.astype(np.int64), names, lambda i: pixels[i])
