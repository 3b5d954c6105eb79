"""TinyViT (arXiv 2207.10666) as MobileSAM (arXiv 2306.14289) has it for its image encoder.

Parameter names are those of MobileSAM's checkpoints. Feature maps are [B, H, W, C] between blocks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.sam.segment_anything_import import (
    LayerNorm2d,
    window_partition,
    window_unpartition,
)
from trainables.sam.units import Units


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm: [B, C, H, W] to [B, C', H', W']."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, then normalise."""
        normalised: Tensor = self.bn(self.c(x))
        return normalised


class PatchEmbed(nn.Module):
    """Two strided convolutions: [B, 3, S, S] to [B, C, S/4, S/4]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.seq = nn.Sequential(ConvNorm(3, half, 3, 2), nn.GELU(), ConvNorm(half, channels, 3, 2))

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed patches of four pixels."""
        embedded: Tensor = self.seq(pictures)
        return embedded


class MBConv(nn.Module):
    """An inverted bottleneck with its residual: [B, C, H, W] to the same."""

    def __init__(self, channels: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = channels * expansion
        self.conv1 = ConvNorm(channels, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Expand, convolve each channel, project, add."""
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """To another width and, with a stride of 2, to half the size: [B, C, H, W] to [B, C', …]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Widen, shrink, mix."""
        merged: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return merged


class ConvStage(nn.Module):
    """The first stage: two inverted bottlenecks, then the step down."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([MBConv(channels), MBConv(channels)])
        self.downsample = PatchMerging(channels, outputs, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H/2, W/2]."""
        for block in self.blocks:
            x = block(x)
        down: Tensor = self.downsample(x)
        return down


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learned bias for each offset.

    The norm is inside: tokens that pad a window enter it as zeros, as the checkpoint was trained.

    Args:
        channels: width of the tokens.
        heads: how many there are.
        length: of a head's queries, keys and values.
        window: side of a window, tokens.
    """

    attention_bias_idxs: Tensor

    def __init__(self, channels: int, heads: int, length: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * heads * length)
        self.proj = nn.Linear(heads * length, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        tokens = torch.arange(window * window)
        rows, columns = tokens // window, tokens % window
        offsets = (rows[:, None] - rows).abs() * window + (columns[:, None] - columns).abs()
        self.register_buffer("attention_bias_idxs", offsets, persistent=False)

    @property
    def units(self) -> Units:
        """Its heads: rows of `qkv` lie as [heads, 3, length], and each head has its own biases."""
        return Units(self.qkv, self.proj, self.heads, tables=(self.attention_biases,))

    def forward(self, windows: Tensor, heads: int | None = None) -> Tensor:
        """With the first `heads`, None: all; [B, window, window, C] to the same."""
        units, heads = self.units, heads or self.heads
        tokens = self.norm(windows.flatten(1, 2))
        qkv = units.into(tokens, heads).unflatten(-1, (heads, 3, -1))
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        bias = self.attention_biases[:heads, self.attention_bias_idxs]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        projected = units.out_of(attended.transpose(1, 2).flatten(2), heads)
        return projected.view(windows.shape)


class TinyMlp(nn.Module):
    """Norm and MLP: [..., C] to the same."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Without the residual."""
        output: Tensor = self.fc2(self.act(self.fc1(self.norm(x))))
        return output


class TinyViTBlock(nn.Module):
    """Windowed attention, a convolution of each channel, an MLP: [B, H, W, C] to the same."""

    def __init__(self, channels: int, window: int, length: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.window_size = window
        self.attn = WindowAttention(channels, heads, length, window)
        self.local_conv = ConvNorm(channels, channels, 3, groups=channels)
        self.mlp = TinyMlp(channels, mlp_width)

    def mix(self, x: Tensor, heads: int | None = None) -> Tensor:
        """All of the block but its MLP, with its first `heads`; None: all."""
        windows, padded = window_partition(x, self.window_size)
        windows = self.attn(windows, heads)
        x = x + window_unpartition(windows, self.window_size, padded, x.shape[1:3])
        local: Tensor = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return local

    def forward(self, x: Tensor) -> Tensor:
        """The whole block."""
        x = self.mix(x)
        output: Tensor = x + self.mlp(x)
        return output


class Stage(nn.Module):
    """Some blocks, then the step to the next stage; the last stage has none."""

    def __init__(self, blocks: Sequence[TinyViTBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks: Sequence[TinyViTBlock] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.downsample = downsample

    def step(self, x: Tensor) -> Tensor:
        """To the next stage's width and size: [B, H, W, C] to [B, H', W', C']."""
        if self.downsample is None:
            return x
        merged: Tensor = self.downsample(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return merged

    def forward(self, x: Tensor) -> Tensor:
        """Blocks and step."""
        for block in self.blocks:
            x = block(x)
        return self.step(x)


class TinyViT(nn.Module):
    """MobileSAM's image encoder: [B, 3, S, S] to [B, 256, S/16, S/16].

    Args:
        img_size: side of the input, pixels.
        channels: width of the convolutional stage and of the three with attention.
        depths: blocks of each stage with attention; a stage may be empty.
        heads: attention heads of whole blocks in each of them; they set a head's length.
        windows: side of the windows in each of them, tokens.
        mlp_widths: hidden neurons of each block's MLP, over all three.
        layer_heads: attention heads of each block, over all three.
    """

    def __init__(
        self,
        img_size: int,
        channels: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        windows: Sequence[int],
        mlp_widths: Sequence[int],
        layer_heads: Sequence[int],
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = PatchEmbed(channels[0])
        sizes = zip(layer_heads, mlp_widths, strict=True)
        stages: list[nn.Module] = [ConvStage(channels[0], channels[1])]
        for i, depth in enumerate(depths):
            width, last = channels[i + 1], i == len(depths) - 1
            length = width // heads[i]
            blocks = [TinyViTBlock(width, windows[i], length, *next(sizes)) for _ in range(depth)]
            # Of the steps down only the first halves the size: the embedding is S/16.
            step = None if last else PatchMerging(width, channels[i + 2], 2 if i == 0 else 1)
            stages.append(Stage(blocks, step))
        self.layers = nn.ModuleList(stages)
        self.neck = nn.Sequential(
            nn.Conv2d(channels[-1], 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    @property
    def stages(self) -> list[Stage]:
        """The stages with attention."""
        return [stage for stage in self.layers if isinstance(stage, Stage)]

    def stem(self, pictures: Tensor) -> Tensor:
        """Patches and the convolutional stage: [B, 3, S, S] to [B, S/8, S/8, C]."""
        stem: Tensor = self.layers[0](self.patch_embed(pictures)).permute(0, 2, 3, 1)
        return stem

    def forward(self, pictures: Tensor) -> Tensor:
        """Embed normalised pictures."""
        x = self.stem(pictures)
        for stage in self.stages:
            x = stage(x)
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding
