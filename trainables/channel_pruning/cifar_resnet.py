"""CIFAR's ResNets (arXiv 1512.03385, section 4.2) in the layout of the well-known trained weights.

Their shortcuts have no parameters (option A): a stage's first block takes every second pixel, and
puts channels of zeros before and behind. Here that shortcut is a module that knows where each of
its channels comes from, so that the streams on both sides of it can lose channels independently.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class CifarResNetConfig:
    """The shape of a CIFAR ResNet: three stages of `blocks` blocks, the first `width` wide."""

    blocks: int
    width: int = 16


CIFAR_RESNETS = {"resnet20": CifarResNetConfig(3), "resnet56": CifarResNetConfig(9)}


class PaddedShortcut(nn.Module):
    """Every second pixel; each output channel is an input channel or zero.

    y_j = g_j x_{s_j}, with g_j = 1 for a channel that has a source s_j, and 0 for one that has
    none. Neither is in the state dict: both follow from the network's shape and its kept channels.

    Args:
        in_channels: of its input.
        out_channels: of its output, at least as many; half of the new ones stand before, half
            behind.
    """

    source: Tensor
    weight: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.register_buffer("source", torch.zeros(out_channels, dtype=torch.long), False)
        self.register_buffer("weight", torch.zeros(out_channels), False)
        before = (out_channels - in_channels) // 2
        self.source[before : before + in_channels] = torch.arange(in_channels)
        self.weight[before : before + in_channels] = 1

    @property
    def out_channels(self) -> int:
        """Of its output."""
        return len(self.source)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', ⌈H / 2⌉, ⌈W / 2⌉]."""
        # A pool over single pixels takes every second one, as x[:, :, ::2, ::2] does.
        taken = F.avg_pool2d(x, 1, stride=2)
        return taken.index_select(1, self.source) * self.weight[:, None, None]

    def remove_outputs(self, channels: list[int]) -> None:
        """Go without these output channels."""
        kept = sorted(set(range(self.out_channels)) - set(channels))
        self.source, self.weight = self.source[kept], self.weight[kept]

    def remove_inputs(self, channels: list[int]) -> None:
        """These input channels are gone: what came from them is zero, the others move up."""
        kept = sorted(set(range(self.in_channels)) - set(channels))
        place = torch.full((self.in_channels,), -1, device=self.source.device)
        place[kept] = torch.arange(len(kept), device=self.source.device)
        moved = place[self.source]
        self.weight = torch.where(moved >= 0, self.weight, 0)
        self.source = moved.clamp(min=0)
        self.in_channels = len(kept)


class CifarBlock(nn.Module):
    """x ↦ ReLU(conv(ReLU(conv(x))) + shortcut(x)), with norms."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        changes = stride != 1 or channels != width
        self.shortcut = PaddedShortcut(channels, width) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """A 3×3 stem, three stages, global mean, linear classifier.

    Args:
        config: its shape.
        classes: how many logits it gives.
    """

    def __init__(self, config: CifarResNetConfig, classes: int) -> None:
        super().__init__()
        channels = config.width
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for stage in range(3):
            width, blocks = config.width * 2**stage, nn.Sequential()
            for i in range(config.blocks):
                blocks.append(CifarBlock(channels, width, 2 if stage and i == 0 else 1))
                channels = width
            self.add_module(f"layer{stage + 1}", blocks)
        self.linear = nn.Linear(channels, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to logits [B, classes]."""
        x = F.relu(self.bn1(self.conv1(pictures)))
        for stage in range(3):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]
