"""ResNets for large pictures (arXiv 1512.03385) in torchvision's layout: the same tensor names."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class ResNetConfig:
    """The shape of a ResNet.

    Args:
        block: `basic`, two convolutions of 3×3, or `bottleneck`, 1×1, 3×3 and 1×1.
        depths: blocks in each of the four stages.
        width: channels of the first stage; each later one has twice as many.
    """

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, int, int, int]
    width: int = 64


RESNETS = {
    "resnet18": ResNetConfig("basic", (2, 2, 2, 2)),
    "resnet34": ResNetConfig("basic", (3, 4, 6, 3)),
    "resnet50": ResNetConfig("bottleneck", (3, 4, 6, 3)),
}


class BasicBlock(nn.Module):
    """x ↦ ReLU(conv(ReLU(conv(x))) + shortcut(x)), with norms."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = _projection(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A narrow 3×3 convolution between two of 1×1; the stride is the 3×3's, as in torchvision."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.downsample = _projection(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Stem, four stages, global mean, linear classifier.

    Args:
        config: its shape.
        classes: how many logits it gives.
    """

    def __init__(self, config: ResNetConfig, classes: int) -> None:
        super().__init__()
        block = BasicBlock if config.block == "basic" else Bottleneck
        channels = config.width
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for stage, depth in enumerate(config.depths):
            width, blocks = config.width * 2**stage, nn.Sequential()
            for i in range(depth):
                stride = 2 if stage and i == 0 else 1
                blocks.append(block(channels, width, stride))
                channels = width * block.expansion
            self.add_module(f"layer{stage + 1}", blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to logits [B, classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(pictures))))
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def _projection(channels: int, out: int, stride: int) -> nn.Sequential | None:
    """The shortcut where the block changes the shape; None where it doesn't."""
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
