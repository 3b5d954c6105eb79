"""A SAM as two programs that run without this code: its image encoder, and its prompted decoder.

The decoder's inputs and outputs are named as in segment_anything's own export
(`scripts/export_onnx_model.py` there), whose clients can use it; unlike that one, it takes any
number of prompts at once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from trainables.onnx_export import ONE_FILE, OPSET, quiet_export
from trainables.sam.models import PROMPT_DIM
from trainables.sam.parents import STRIDE
from trainables.sam.segment_anything_import import Sam

Shape = tuple[int | str, ...]
"""Of a tensor; a size with a name is free."""


class Interface(NamedTuple):
    """What one program takes and gives, by name and in order; all of it is float32."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]

    @property
    def free_sizes(self) -> tuple[dict[int, str], ...]:
        """The names of each input's free sizes, by axis."""
        return tuple(
            {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
            for shape in self.inputs.values()
        )

    def example(self) -> tuple[Tensor, ...]:
        """Inputs to trace with; free sizes are 2 and 3, since 1 would be taken for a constant."""
        sizes = {"points": 3}
        return tuple(
            torch.ones([size if isinstance(size, int) else sizes.get(size, 2) for size in shape])
            for shape in self.inputs.values()
        )


def interfaces(image_size: int) -> dict[str, Interface]:
    """Of `encoder` and `decoder`, for an input side in pixels."""
    grid = image_size // STRIDE
    masks = 4 * grid
    embedding = (PROMPT_DIM, grid, grid)
    return {
        "encoder": Interface(
            {"images": ("batch", 3, image_size, image_size)},
            {"image_embeddings": ("batch", *embedding)},
        ),
        "decoder": Interface(
            {
                "image_embeddings": (1, *embedding),
                "point_coords": ("prompts", "points", 2),
                "point_labels": ("prompts", "points"),
                "mask_input": ("prompts", 1, masks, masks),
                "has_mask_input": (1,),
                "orig_im_size": (2,),
            },
            {
                "masks": ("prompts", 4, "height", "width"),
                "iou_predictions": ("prompts", 4),
                "low_res_masks": ("prompts", 4, masks, masks),
            },
        ),
    }


class PromptedDecoder(nn.Module):
    """A SAM's prompt encoder, mask decoder and resizing as one function of tensors.

    Its constants are taken from the weights when it is made: it is for export, not for training.
    """

    positions: Tensor
    label_embeddings: Tensor

    @torch.no_grad()
    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.image_size: int = sam.image_encoder.img_size
        self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder
        own = [sam.prompt_encoder.not_a_point_embed, *sam.prompt_encoder.point_embeddings]
        self.register_buffer("label_embeddings", torch.cat([part.weight for part in own]))
        self.register_buffer("positions", sam.prompt_encoder.get_dense_pe().contiguous())

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All four masks of N prompts about one picture.

        Args:
            image_embeddings: [1, 256, S/16, S/16].
            point_coords: x, y in pixels of the encoder's input, [N, P, 2].
            point_labels: what each is: 1 on the object, 0 beside it, 2 and 3 a box's upper left and
                lower right corner, -1 nothing. [N, P].
            mask_input: logits of an earlier answer, [N, 1, S/4, S/4].
            has_mask_input: 1 where those count, else 0; [1].
            orig_im_size: the picture's own height and width, pixels; [2].

        Returns:
            Mask logits [N, 4, height, width], predicted IoUs [N, 4], and the logits before they
            were enlarged, [N, 4, S/4, S/4]. The first of the four is for unambiguous prompts, the
            others are the three of ambiguous ones.
        """
        low, ious = self.mask_decoder.predict_masks(
            image_embeddings=image_embeddings,
            image_pe=self.positions,
            sparse_prompt_embeddings=self._sparse(point_coords, point_labels),
            dense_prompt_embeddings=self._dense(mask_input, has_mask_input),
        )
        return self._at_full_size(low, orig_im_size), ious, low

    def _sparse(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Points [N, P, 2] with labels [N, P] as tokens [N, P, 256]."""
        places = self.prompt_encoder.pe_layer._pe_encoding((coords + 0.5) / self.image_size)
        given = (labels >= 0).to(places.dtype)[..., None]
        tokens: Tensor = places * given + self.label_embeddings[labels.long() + 1]
        return tokens

    def _dense(self, logits: Tensor, given: Tensor) -> Tensor:
        """Masks [N, 1, S/4, S/4] as [N, 256, S/16, S/16]."""
        nothing = self.prompt_encoder.no_mask_embed.weight[..., None, None]
        embedded = self.prompt_encoder.mask_downscaling(logits)
        dense: Tensor = given * embedded + (1 - given) * nothing
        return dense

    def _at_full_size(self, logits: Tensor, size: Tensor) -> Tensor:
        """As `Sam.postprocess_masks`: the square, cut to the picture, at the picture's own size."""
        # In double precision, as the picture's size at the encoder's input is reckoned.
        sides = size.double()
        shrunk = (sides * (self.image_size / sides.max()) + 0.5).floor()
        height, width = _lengths(size)
        inner_height, inner_width = _lengths(shrunk)
        torch._check(inner_height <= self.image_size)
        torch._check(inner_width <= self.image_size)
        square = (self.image_size, self.image_size)
        large = F.interpolate(logits, square, mode="bilinear", align_corners=False)
        large = large[..., :inner_height, :inner_width]
        return F.interpolate(large, (height, width), mode="bilinear", align_corners=False)


def _lengths(sides: Tensor) -> tuple[int, int]:
    """Height and width out of a tensor, where they are known to be no less than 1."""
    # `int` would ask for numbers, which there are none of while a program is made.
    height, width = (cast(int, side.item()) for side in sides.long().unbind())
    torch._check(height >= 1)
    torch._check(width >= 1)
    return height, width


@torch.no_grad()
def export_programs(
    sam: Sam, parts: Sequence[str] = ("encoder", "decoder")
) -> dict[str, ExportedProgram]:
    """Encoder and decoder of a SAM on the CPU, or one of them; free sizes are `interfaces`'."""
    described = interfaces(sam.image_encoder.img_size)
    programs = {}
    for part in parts:
        module = sam.image_encoder if part == "encoder" else PromptedDecoder(sam)
        sizes = described[part].free_sizes
        free = {name: Dim(name) for axes in sizes for name in axes.values()}
        programs[part] = torch.export.export(
            module,
            described[part].example(),
            dynamic_shapes=tuple({i: free[name] for i, name in axes.items()} for axes in sizes),
            strict=False,
        )
    return programs


def write_torch(programs: Mapping[str, ExportedProgram], folder: Path) -> None:
    """Write `encoder.pt2` and `decoder.pt2`, for `torch.export.load`; the folder must exist."""
    for part, program in programs.items():
        torch.export.save(program, folder / f"{part}.pt2")


def write_onnx(
    programs: Mapping[str, ExportedProgram], image_size: int, folder: Path, one_file: int = ONE_FILE
) -> None:
    """Write `encoder.onnx` and `decoder.onnx`; the folder must exist.

    Args:
        programs: as `export_programs` gives them.
        image_size: side of the encoder's input, pixels.
        folder: where to.
        one_file: bytes of weights from which they stand in a file beside, `NAME.onnx.data`.
    """
    for part, program in programs.items():
        interface = interfaces(image_size)[part]
        weights = sum(tensor.nbytes for tensor in program.state_dict.values())
        with quiet_export():
            torch.onnx.export(
                program,
                f=folder / f"{part}.onnx",
                input_names=list(interface.inputs),
                output_names=list(interface.outputs),
                dynamic_shapes=interface.free_sizes,
                opset_version=OPSET,
                dynamo=True,
                external_data=weights >= one_file,
                verbose=False,
            )
