"""The visual prompt: a learnt picture, and the encoder that starts the LSTM with it."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from search_spaces.errors import InputError


class PromptSettings(BaseModel):
    """The form of the prompt.

    Args:
        form: `pad`, a frame; `full`, the whole picture; `patch`, a square in the upper left
            corner; `none`, no prompt: the LSTM starts from zeros.
        size: thickness of the frame, or side of the patch, pixels.
        on_pictures: whether the prompt is also added to the pictures while masks are trained. It
            is not when a pruned network is fine-tuned, measured or used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["pad", "full", "patch", "none"] = "pad"
    size: int = Field(4, ge=1)
    on_pictures: bool = True


class VisualPrompt(nn.Module):
    """One pattern for all pictures, zero at the start.

    The forms and the start are those of VPNs (the same authors' visual prompting of sparse
    networks); the paper's own are not known.

    Args:
        settings: its form.
        image_size: side of the pictures, pixels.

    Raises:
        InputError: the frame or the patch is larger than the picture.
    """

    region: Tensor

    def __init__(self, settings: PromptSettings, image_size: int) -> None:
        super().__init__()
        size, form = settings.size, settings.form
        limit = image_size // 2 if form == "pad" else image_size
        if form in ("pad", "patch") and size > limit:
            raise InputError(
                f"prompt.size: a {form} of {size} pixels doesn't fit a picture of {image_size}; "
                f"give {limit} at most"
            )
        region = torch.zeros(1, image_size, image_size)
        if form == "full":
            region += 1
        elif form == "patch":
            region[:, :size, :size] = 1
        elif form == "pad":
            region += 1
            region[:, size : image_size - size, size : image_size - size] = 0
        self.register_buffer("region", region, False)
        self.pattern = nn.Parameter(torch.zeros(3, image_size, image_size))
        self.on_pictures = settings.on_pictures and form != "none"

    @property
    def picture(self) -> Tensor:
        """The pattern where it counts, zero elsewhere: [3, S, S]."""
        return self.pattern * self.region

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] with the prompt laid over them, clamped."""
        return (pictures + self.picture).clamp(0, 1) if self.on_pictures else pictures


class PromptEncoder(nn.Module):
    """g_ω: from the prompt to the LSTM's initial hidden and cell state.

    Three convolutions with stride 2, the mean over all places, a linear layer. That it gives both
    states is our choice.

    Args:
        hidden: width of the LSTM.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 2 * hidden),
        )

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """A prompt [3, S, S] to h and c, each [1, hidden]."""
        state: Tensor = self.layers(picture[None])
        hidden, cell = state.chunk(2, 1)
        return hidden, cell
