"""Calibration batches: what neurons are scored on, before any training."""

from collections.abc import Iterator

from trainables.data.batches import AugmentSettings, Batch, training_batch
from trainables.data.pictures import Pictures
from trainables.data.prompts import PromptKind

AS_THEY_ARE = AugmentSettings(flip=False, rotate=False, smallest_crop=1, box_noise=0)


def calibration_batches(
    pictures: Pictures,
    count: int,
    *,
    seed: int,
    image_size: int,
    max_objects: int,
    prompts: PromptKind,
) -> Iterator[Batch]:
    """Pictures at random, whole and upright, with exact prompts: one in each batch.

    Args:
        pictures: the train split.
        count: how many; all, where there are fewer.
        seed: pictures, objects and prompts follow from it.
        image_size: side of the encoder's input.
        max_objects: objects prompted in a picture at most.
        prompts: what is asked with.
    """
    for step in range(min(count, len(pictures))):
        yield training_batch(
            pictures,
            step,
            seed=seed,
            batch_size=1,
            image_size=image_size,
            max_objects=max_objects,
            prompts=prompts,
            augment=AS_THEY_ARE,
        )
