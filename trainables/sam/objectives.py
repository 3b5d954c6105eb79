"""What a subnet gives for a batch, and how far that is from the labels and from a teacher's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from search_spaces.subnet import Subnet
from trainables.data.prompts import Prompts
from trainables.sam.decoder import decode_masks
from trainables.sam.losses import LossKind, segmentation_loss
from trainables.sam.supernet import Supernet


class Distillation(BaseModel):
    """How much smaller subnets learn from the largest, beside the labels; 0 turns a part off.

    Args:
        embedding: weight of the image embedding's error.
        masks: weight of the mask logits' error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: float = Field(0.0, ge=0)
    masks: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class Answers:
    """What a subnet gives for a batch.

    Args:
        embeddings: [B, 256, H, W].
        logits: for each picture mask logits [N, 4, 4H, 4W].
        ious: for each picture predicted IoUs [N, 4].
    """

    embeddings: Tensor
    logits: tuple[Tensor, ...]
    ious: tuple[Tensor, ...]

    def detached(self) -> "Answers":
        """The same values, as a teacher's: no gradient goes back into them."""
        return Answers(
            self.embeddings.detach(),
            tuple(logits.detach() for logits in self.logits),
            tuple(ious.detach() for ious in self.ious),
        )


def answer(
    supernet: Supernet,
    tokens: Tensor,
    subnet: Subnet,
    prompts: Sequence[tuple[Tensor, Tensor]],
    *,
    start: int = 0,
    recompute: bool = False,
) -> Answers:
    """Run a subnet's layers and the decoder.

    Args:
        supernet: the weights.
        tokens: what goes into layer `start`, of B pictures.
        subnet: which slices of them.
        prompts: for each picture what `encode_prompts` gave.
        start: the first layer of the parent that is still to run.
        recompute: as `ElasticEncoder.layers` has it.
    """
    encoder = supernet.encoder
    embeddings = encoder.head(encoder.layers(tokens, subnet, start=start, recompute=recompute))
    decoded = [
        decode_masks(supernet.sam, embedding[None], encoded)
        for embedding, encoded in zip(embeddings, prompts, strict=True)
    ]
    return Answers(embeddings, tuple(d[0] for d in decoded), tuple(d[1] for d in decoded))


def answers_loss(
    answers: Answers, targets: Sequence[Tensor], prompts: Sequence[Prompts], kind: LossKind
) -> Tensor:
    """The mean over pictures of the loss against the labels."""
    losses = [
        segmentation_loss(logits.float(), ious.float(), wanted, asked, kind)
        for logits, ious, wanted, asked in zip(
            answers.logits, answers.ious, targets, prompts, strict=True
        )
    ]
    return torch.stack(losses).mean()


def distillation_loss(student: Answers, teacher: Answers, weights: Distillation) -> Tensor:
    """How far a student is from its teacher.

    embedding · ‖e − ê‖² / ‖ê‖² + masks · mean CE(σ(m̂), σ(m)), with e, m the student's image
    embeddings and mask logits, ê, m̂ the teacher's; cross entropy less the teacher's own entropy,
    so that both parts are 0 where the two agree.
    """
    loss = torch.zeros((), device=student.embeddings.device)
    if weights.embedding:
        given = teacher.embeddings.float()
        error = (student.embeddings.float() - given).square().sum() / given.square().sum()
        loss = loss + weights.embedding * error
    if weights.masks:
        pairs = zip(student.logits, teacher.logits, strict=True)
        errors = [_mask_error(own.float(), given.float()) for own, given in pairs]
        loss = loss + weights.masks * torch.stack(errors).mean()
    return loss


def _mask_error(own: Tensor, given: Tensor) -> Tensor:
    wanted = given.sigmoid()
    crossed = F.binary_cross_entropy_with_logits(own, wanted)
    return crossed - F.binary_cross_entropy_with_logits(given, wanted)
