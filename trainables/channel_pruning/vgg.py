"""VGG-16 (arXiv 1409.1556), plain and with batch norm, in torchvision's layout."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class VGGConfig:
    """The shape of a VGG.

    Args:
        stages: for each stage, after which pictures are halved, the channels of its convolutions.
        hidden: neurons of the two hidden linear layers.
        batch_norm: whether a norm follows each convolution.
        pooled: side of the grid that the linear layers see.
    """

    stages: tuple[tuple[int, ...], ...] = (
        (64, 64),
        (128, 128),
        (256, 256, 256),
        (512, 512, 512),
        (512, 512, 512),
    )
    hidden: int = 4096
    batch_norm: bool = False
    pooled: int = 7


VGGS = {"vgg16": VGGConfig(), "vgg16_bn": VGGConfig(batch_norm=True)}


class VGG(nn.Module):
    """Convolutions of 3×3, then three linear layers.

    Args:
        config: its shape.
        classes: how many logits it gives.
    """

    def __init__(self, config: VGGConfig, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for widths in config.stages:
            for width in widths:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if config.batch_norm else []
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(config.pooled)
        self.classifier = nn.Sequential(
            nn.Linear(channels * config.pooled**2, config.hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(config.hidden, classes),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to logits [B, classes]."""
        pooled = self.avgpool(self.features(pictures))
        return self.classifier(pooled.flatten(1))  # type: ignore[no-any-return]
