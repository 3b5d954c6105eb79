"""mIoU of a subnet on prompted objects, with the same prompts for every subnet.

An `EvaluationSet` is what subnets are measured on, one by one; an `Evaluator` (`evaluator.py`)
measures many of one supernet, with the same results in less time; `detailed.py` measures one model
once, in more detail.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

import torch
from torch import Tensor

from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.data.pictures import Pictures
from trainables.data.prompts import PromptKind
from trainables.sam.examples import make_examples
from trainables.sam.object_results import (
    ObjectResult,
    encoder_input,
    in_batches,
    object_results,
    pictures_at_once,
)
from trainables.sam.supernet import Supernet


@dataclass(frozen=True)
class Metrics:
    """Means over prompted objects.

    `miou` takes the mask that the model's predicted IoU ranks first, `miou_oracle` the best of the
    three; both at the picture's own resolution.
    """

    miou: float
    miou_oracle: float
    objects: int

    @classmethod
    def of(cls, results: Sequence[ObjectResult]) -> Self:
        """The means of one or more results."""
        miou, oracle = fmean(r.iou for r in results), fmean(r.best_iou for r in results)
        return cls(miou, oracle, len(results))


class EvaluationSet:
    """Pictures with their prompts, held in memory to evaluate any number of subnets on.

    Args:
        pictures: a split.
        image_size: side of the encoder's input.
        prompts: what is asked with; `mixed` asks each picture with one or the other.
        seed: prompts and, where there are more than `max_objects`, the objects follow from it.
        limit: only the first so many pictures.
        max_objects: objects prompted in a picture at most.
        min_area: pixels that an object needs to be prompted.

    Attributes:
        examples: the pictures with an object to prompt.
        batch_size: pictures that suit an encoder together.

    Raises:
        InputError: there is no object to prompt.
    """

    def __init__(
        self,
        pictures: Pictures,
        *,
        image_size: int,
        prompts: PromptKind,
        seed: int,
        limit: int | None = None,
        max_objects: int = 64,
        min_area: int = 1,
    ) -> None:
        self._count = len(pictures) if limit is None else min(limit, len(pictures))
        self.examples = list(
            make_examples(
                (pictures[i] for i in range(self._count)),
                (prompts,),
                image_size=image_size,
                seed=seed,
                max_objects=max_objects,
                min_area=min_area,
            )
        )
        if not self.examples:
            raise InputError(no_object(self._count, min_area))
        self.prompts = prompts
        self.batch_size = pictures_at_once(image_size)

    def __len__(self) -> int:
        """The pictures, those without an object to prompt included."""
        return self._count

    def evaluate(
        self, supernet: Supernet, subnet: Subnet, batch_size: int | None = None
    ) -> Metrics:
        """Measure one subnet; deterministic for given weights.

        Args:
            batch_size: pictures that the encoder takes together; None: as many as suit their size.
        """
        return Metrics.of(self.results(supernet, subnet, batch_size))

    def results(
        self,
        supernet: Supernet,
        subnet: Subnet,
        batch_size: int | None = None,
        with_masks: bool = False,
    ) -> list[ObjectResult]:
        """The result of each object, picture by picture; with the chosen masks if asked for."""
        kinds = (self.prompts,)
        found = object_results(
            supernet,
            subnet,
            self.examples,
            kinds,
            batch_size=batch_size or self.batch_size,
            masks_of=kinds if with_masks else (),
        )
        return list(found)

    def box_miou(self) -> float:
        """What the objects' own tight boxes, taken as masks, would score."""
        return fmean(iou for example in self.examples for iou in example.box_ious)

    @torch.no_grad()
    def embeddings(
        self, supernet: Supernet, subnet: Subnet, batch_size: int | None = None
    ) -> Sequence[Tensor]:
        """The image embeddings, one [256, H, W] for each picture with an object to prompt."""
        inputs = self.batches(supernet, batch_size)
        return [embedding for pictures in inputs for embedding in supernet(pictures, subnet)]

    def batches(self, supernet: Supernet, batch_size: int | None = None) -> Iterator[Tensor]:
        """The same pictures as the encoder's input, normalised: [B, 3, S, S] each."""
        for batch in in_batches(self.examples, batch_size or self.batch_size):
            yield encoder_input(supernet, batch)


def no_object(pictures: int, min_area: int) -> str:
    """What to tell who asks for objects that there are none of."""
    return (
        f"evaluation.min_area: none of the {pictures} pictures has an object of {min_area} pixels "
        "or more; lower it, or take more pictures"
    )
