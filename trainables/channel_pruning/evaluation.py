"""How good a network is, and its norms' statistics after pruning."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.channel_pruning.data.batches import normalised, plain_batches
from trainables.channel_pruning.data.image_set import ImageSet


@torch.no_grad()
def accuracy(
    run: Callable[[Tensor], Tensor],
    images: ImageSet,
    *,
    image_size: int,
    device: torch.device,
    batch_size: int = 500,
) -> float:
    """The share of pictures whose largest logit is their class's.

    Args:
        run: from normalised pictures [B, 3, S, S] to logits [B, classes]; a network in eval mode.
        images: one split, as it is: no prompt, no augmentation.
    """
    right = 0
    for batch in plain_batches(images, batch_size=batch_size, image_size=image_size):
        logits = run(normalised(batch.pictures.to(device)))
        right += int((logits.argmax(1).cpu() == batch.labels).sum())
    return right / len(images)


@torch.no_grad()
def recalibrate(
    network: nn.Module,
    images: ImageSet,
    *,
    image_size: int,
    batch_size: int = 128,
    batches: int = 20,
) -> None:
    """Measure the norms' means and variances anew, in place: the mean over some plain batches.

    Those of the unpruned network are far from what a pruned one has. Each batch is spread over all
    pictures: folders of classes come class by class.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms or batches == 0:
        return
    device = next(network.parameters()).device
    momenta, training = [norm.momentum for norm in norms], network.training
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True  # None: a plain mean over batches
    some = images.subset(_spread(len(images), batch_size, batches))
    for batch in plain_batches(some, batch_size=batch_size, image_size=image_size):
        network(normalised(batch.pictures.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(training)


def _spread(count: int, batch_size: int, batches: int) -> list[int]:
    """Indices of pictures, batch by batch, each batch from the first to the last of them."""
    taken = min(count, batches * batch_size)
    even = [place * count // taken for place in range(taken)]
    needed = -(-taken // batch_size)
    return [index for first in range(needed) for index in even[first::needed]]
