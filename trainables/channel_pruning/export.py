"""A network as ONNX: pictures in, logits out, the normalisation within."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from trainables.channel_pruning.data.batches import MEAN, STD
from trainables.onnx_export import ONE_FILE, OPSET, quiet_export

TOLERANCE = 1e-3
"""How far a logit may be from the network's own: |exported − own| / max(1, |own|)."""


class WithNormalisation(nn.Module):
    """A network behind the normalisation of its pictures.

    Args:
        network: on normalised pictures.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], False)

    def forward(self, pictures: Tensor) -> Tensor:
        """RGB [B, 3, S, S] in [0, 1] to logits [B, classes]."""
        logits: Tensor = self.network((pictures - self.mean) / self.std)
        return logits


@torch.no_grad()
def write_onnx(network: nn.Module, image_size: int, path: Path) -> None:
    """Write a network on the CPU, in eval mode; its folder must exist.

    Args:
        network: on normalised pictures.
        image_size: side of its pictures, pixels.
        path: of a file whose input is `pictures` [batch, 3, S, S], RGB in [0, 1], and whose output
            `logits` [batch, classes]; the batch is free.
    """
    example = torch.zeros(2, 3, image_size, image_size)
    module = WithNormalisation(network).eval()
    program = torch.export.export(
        module, (example,), dynamic_shapes=({0: Dim("batch")},), strict=False
    )
    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    with quiet_export():
        torch.onnx.export(
            program,
            f=path,
            input_names=["pictures"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            opset_version=OPSET,
            dynamo=True,
            external_data=weights >= ONE_FILE,
            verbose=False,
        )


@torch.no_grad()
def onnx_difference(path: Path, network: nn.Module, pictures: Tensor) -> float:
    """The largest |exported − own| / max(1, |own|) of any logit, by onnxruntime on the CPU.

    Args:
        path: as `write_onnx` wrote it.
        network: the same, on the CPU.
        pictures: [B, 3, S, S] in [0, 1]; given all at once, then the first one alone.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    module, found = WithNormalisation(network).eval(), 0.0
    for some in (pictures, pictures[:1]):
        (theirs,) = session.run(None, {"pictures": some.numpy().astype(np.float32)})
        own = module(some)
        away = (torch.from_numpy(theirs) - own).abs() / own.abs().clamp(min=1)
        found = max(found, float(away.max()))
    return found
