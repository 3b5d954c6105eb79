"""Exported encoders and decoders, run, and measured as the model itself is."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

import onnxruntime
import torch
from torch import Tensor

from trainables.data.prompts import PromptKind, Prompts
from trainables.data.table import decode_masks as decode_rle
from trainables.sam.evaluation import Metrics
from trainables.sam.examples import Example
from trainables.sam.segment_anything_import import Sam

Run = Callable[[str, Sequence[Tensor]], list[Tensor]]
"""Runs `encoder` or `decoder`: inputs and outputs in the order of `export.interfaces`."""
Points = tuple[Tensor, Tensor]
"""Prompts as the decoder takes them: x, y in the encoder's input [N, P, 2], and labels [N, P]."""


def run_torch(folder: Path) -> Run:
    """What `write_torch` wrote."""
    parts = {p: torch.export.load(folder / f"{p}.pt2").module() for p in ("encoder", "decoder")}

    @torch.no_grad()
    def run(part: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        outputs = parts[part](*inputs)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    return run


def run_onnx(folder: Path) -> Run:
    """What `write_onnx` wrote, in onnxruntime on the CPU, with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    parts = {
        part: onnxruntime.InferenceSession(
            folder / f"{part}.onnx", options, providers=["CPUExecutionProvider"]
        )
        for part in ("encoder", "decoder")
    }

    def run(part: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        names = [wanted.name for wanted in parts[part].get_inputs()]
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in parts[part].run(None, given)]

    return run


def as_points(prompts: Prompts) -> Points:
    """Boxes as their corners; a point with nothing beside it, as `Sam.prompt_encoder` has it."""
    if prompts.boxes is not None:
        labels = torch.tensor([2.0, 3.0]).repeat(len(prompts.boxes), 1)
        return prompts.boxes.view(-1, 2, 2), labels
    assert prompts.points is not None
    return with_nothing(prompts.points, torch.ones(prompts.points.shape[:2]))


def with_nothing(coords: Tensor, labels: Tensor) -> Points:
    """Points [N, P, 2] with labels [N, P], and one more that is nothing, in place of a box."""
    count = len(coords)
    nothing = torch.zeros(count, 1, 2), torch.full((count, 1), -1.0)
    return torch.cat([coords, nothing[0]], dim=1), torch.cat([labels, nothing[1]], dim=1)


def ask(
    run: Run, embedding: Tensor, points: Points, size: tuple[int, int], mask: Tensor | None = None
) -> list[Tensor]:
    """The decoder's outputs for N prompts about one picture.

    Args:
        run: the model.
        embedding: [1, 256, S/16, S/16].
        points: the prompts.
        size: the picture's own height and width, pixels.
        mask: logits of an earlier answer, [N, 1, S/4, S/4].
    """
    side = 4 * embedding.shape[-1]
    given = torch.zeros(len(points[0]), 1, side, side) if mask is None else mask
    known = torch.tensor([0.0 if mask is None else 1.0])
    return run("decoder", (embedding, *points, given, known, torch.tensor(size).float()))


@torch.no_grad()
def measure_exported(run: Run, sam: Sam, examples: Iterable[Example], kind: PromptKind) -> Metrics:
    """mIoU of an exported model, with the prompts and masks of `EvaluationSet.evaluate`.

    Args:
        run: the exported model.
        sam: how pictures are normalised.
        examples: the pictures; each is encoded alone.
        kind: of the prompts that the examples have.
    """
    chosen: list[float] = []
    best: list[float] = []
    for example in examples:
        (embedding,) = run("encoder", [sam.preprocess(example.pixels)[None]])
        objects = iter(example.objects)
        for prompts in example.prompts[kind]:
            points = as_points(prompts)
            rows = list(itertools.islice(objects, len(points[0])))
            logits, predicted, _ = ask(run, embedding, points, example.size)
            masks = logits[:, 1:] > sam.mask_threshold
            truth = torch.from_numpy(decode_rle(rows, *example.size))[:, None]
            shared = (masks & truth).flatten(-2).sum(-1).double()
            ious = shared / (masks | truth).flatten(-2).sum(-1).clamp(min=1)
            first = predicted[:, 1:].argmax(1, keepdim=True)
            chosen += ious.gather(1, first)[:, 0].tolist()
            best += ious.max(1).values.tolist()
    return Metrics(fmean(chosen), fmean(best), len(chosen))
