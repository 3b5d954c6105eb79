"""Many subnets of one supernet on one evaluation set: each result as if alone, in less time.

What subnets have in common is computed once: tokens behind layers that they share
(`prefix_cache.py`), embeddings of prompts, true masks. And an evaluation can end early
(`early_stopping.py`). What is computed at all is that of `EvaluationSet.evaluate`, to the bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from statistics import fmean

import numpy as np
from torch import Tensor, nn

from search_spaces.subnet import Subnet
from trainables.early_stopping import RUNGS, ObjectIous, rung_ends
from trainables.sam.evaluation import EvaluationSet, Metrics
from trainables.sam.examples import Example
from trainables.sam.object_results import (
    ObjectResult,
    Question,
    answers,
    dense_positions,
    encoder_input,
    in_batches,
    questions,
)
from trainables.sam.prefix_cache import PrefixCache
from trainables.sam.supernet import Supernet

CACHE_BYTES = 1 << 30
"""Tokens that are kept, unless told otherwise."""
TRUTH_BYTES = 256 << 20
"""True masks that are kept, a bit for each pixel; those beyond are decoded each time."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found out about a subnet.

    Args:
        results: of the objects that were asked about.
        whole: whether these are all.
        rung_mious: the mIoU after each rung.
    """

    results: tuple[ObjectResult, ...]
    whole: bool
    rung_mious: tuple[float, ...]

    @property
    def metrics(self) -> Metrics:
        """Over these objects."""
        return Metrics.of(self.results)

    @property
    def ious(self) -> ObjectIous:
        """Of each of these objects."""
        return _object_ious(self.results)


class Evaluator:
    """Evaluates subnets of a supernet whose weights stay as they are.

    Args:
        supernet: in evaluation mode.
        examples: what is evaluated on.
        batch_size: pictures that the encoder takes together; None: as many as suit their size.
        cache_bytes: of tokens that are kept, where the weights are; 0 keeps none.
        with_masks: whether results have the chosen masks.

    Attributes:
        examples: what is evaluated on.
        cache: of tokens; it counts layers.

    Raises:
        ValueError: the supernet is in training mode.
    """

    def __init__(
        self,
        supernet: Supernet,
        examples: EvaluationSet,
        batch_size: int | None = None,
        cache_bytes: int = CACHE_BYTES,
        with_masks: bool = False,
    ) -> None:
        if supernet.sam.training:
            raise ValueError("subnets are evaluated in evaluation mode: call eval() first")
        self.supernet = supernet
        self.examples = examples
        self.cache = PrefixCache(supernet, cache_bytes)
        self._with_masks = with_masks
        self._batches = list(in_batches(examples.examples, batch_size or examples.batch_size))
        self._weights = _state(supernet)
        self._positions = dense_positions(supernet.sam)
        self._questions: dict[int, list[Question]] = {}
        self._truth_bytes = 0

    def evaluate(
        self,
        subnet: Subnet,
        go_on: Callable[[ObjectIous], bool] = lambda _: True,
        rungs: Sequence[float] = RUNGS,
    ) -> Evaluation:
        """Measure one subnet, as far as it is worth it.

        Args:
            subnet: which slices of the weights.
            go_on: asked after each rung but the last, with what is known so far.
            rungs: shares of the pictures, as `rung_ends` takes them.

        Raises:
            RuntimeError: the weights have changed since this evaluator was made.
        """
        results: list[ObjectResult] = []
        mious: list[float] = []
        start = 0
        for end in rung_ends(rungs, [len(batch) for batch in self._batches]):
            if start and not go_on(_object_ious(results)):
                break
            for batch in range(start, end):
                results += self._answers(batch, self._encode(batch, subnet))
            mious.append(fmean(result.iou for result in results))
            start = end
        whole = start == len(self._batches)
        return Evaluation(tuple(results), whole, tuple(mious))

    def embeddings(self, subnet: Subnet) -> list[Tensor]:
        """The image embeddings, [B, 256, H, W] for each batch of pictures with an object to prompt.

        Raises:
            RuntimeError: the weights have changed since this evaluator was made.
        """
        return [self._encode(batch, subnet) for batch in range(len(self._batches))]

    def metrics(self, embeddings: Sequence[Tensor]) -> Metrics:
        """What the decoder makes of the embeddings of all batches."""
        found = (self._answers(batch, some) for batch, some in enumerate(embeddings))
        return Metrics.of(list(chain.from_iterable(found)))

    def _encode(self, batch: int, subnet: Subnet) -> Tensor:
        if _state(self.supernet) != self._weights:
            raise RuntimeError("the supernet's weights have changed: make a new evaluator for them")
        pictures = partial(encoder_input, self.supernet, self._batches[batch])
        return self.cache.encode(batch, pictures, subnet)

    def _answers(self, batch: int, embeddings: Tensor) -> Iterator[ObjectResult]:
        first = sum(len(before) for before in self._batches[:batch])
        for i, example in enumerate(self._batches[batch]):
            for question in self._asked(first + i, example):
                yield from answers(
                    self.supernet.sam,
                    embeddings[i : i + 1],
                    self._positions,
                    question,
                    first + i,
                    self._with_masks,
                )

    def _asked(self, picture: int, example: Example) -> list[Question]:
        if picture not in self._questions:
            asked = questions(self.supernet.sam, example, self.examples.prompts)
            self._questions[picture] = [self._held(question) for question in asked]
        return self._questions[picture]

    def _held(self, question: Question) -> Question:
        """The question with its true masks, while there is room for them."""
        height, width = question.example.size
        size = len(question.rows) * -(-height * width // 8)
        if self._truth_bytes + size > TRUTH_BYTES:
            return question
        self._truth_bytes += size
        return question.with_truth()


def _state(module: nn.Module) -> list[tuple[int, int]]:
    """Where all weights are, and how often each was written to."""
    tensors = chain(module.parameters(), module.buffers())
    return [(tensor.data_ptr(), tensor._version) for tensor in tensors]


def _object_ious(results: Sequence[ObjectResult]) -> ObjectIous:
    """Results that stand picture by picture."""
    _, objects = np.unique([result.picture for result in results], return_counts=True)
    return ObjectIous(np.array([result.iou for result in results], dtype=np.float32), objects)
