"""A frozen network under masks: Ŵ(i) = M(i−1) ⊗ W(i) ⊗ M(i), and the masks' gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.channel_pruning.cifar_resnet import PaddedShortcut
from trainables.channel_pruning.groups import ChannelGroup, Member

Masking = Literal["both", "inputs"]
"""Which sides of a weight are masked; what the network computes is the same.

`both` is PASS's formula. There a channel that is pruned has no output, so nothing tells what it
would be worth: its mask has a gradient through its own shift alone. With `inputs`, Ŵ(i) = M(i−1) ⊗
W(i), it is still computed, only nobody reads it, and its mask's gradient says what reading it would
change.
"""


def straight_through(
    scores: Tensor, mask: Tensor, threshold: float, temperature: float, price: float = 1.0
) -> Tensor:
    """The mask forward, the scores' gradient backward.

    Args:
        scores: of a group's channels, [C].
        mask: 0 or 1, [C].
        threshold: where the scores were cut.
        temperature: the gradient is that of σ((s − threshold) / temperature), which is largest at
            the threshold; 0: of s itself, unchanged.
        price: the gradient is divided by it.
    """
    soft = scores if temperature == 0 else ((scores - threshold) / temperature).sigmoid()
    return mask + (soft - soft.detach()) / price


class MaskedNetwork:
    """Runs a network with any masks; its weights and its norms' statistics stay as they are.

    Args:
        network: what is pruned.
        groups: its own.
        masking: where masks act.
    """

    def __init__(
        self, network: nn.Module, groups: Sequence[ChannelGroup], masking: Masking = "inputs"
    ) -> None:
        self.network = network
        self.groups = tuple(groups)
        self.masking = masking
        device = next(network.parameters()).device
        self._index = {
            member: torch.tensor(member.channels, device=device)
            for group in groups
            for member in group.members
            if not member.is_plain
        }
        self._norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]

    def __call__(
        self, pictures: Tensor, masks: Sequence[Tensor], *, batch_statistics: bool = False
    ) -> Tensor:
        """Logits [B, classes] of normalised pictures [B, 3, H, W].

        Args:
            pictures: where the network is.
            masks: for each group [C]; gradients reach them, and the pictures.
            batch_statistics: whether batch norms use the batch's mean and variance. The statistics
                that they learnt are the unpruned network's, and far from a pruned one's.
        """
        tensors = self.masked_tensors(masks)
        with self._modes(batch_statistics):
            if batch_statistics:  # what a norm counts goes into copies, and is thrown away
                tensors |= {
                    name: buffer.clone()
                    for name, buffer in self.network.named_buffers()
                    if name not in tensors
                }
            logits: Tensor = functional_call(self.network, tensors, (pictures,))
        return logits

    def masked_tensors(self, masks: Sequence[Tensor]) -> dict[str, Tensor]:
        """All weights, by name and without gradients of their own, those of groups masked."""
        tensors = {name: p.detach() for name, p in self.network.named_parameters()}
        for group, mask in zip(self.groups, masks, strict=True):
            for member in group.members:
                module = self.network.get_submodule(member.module)
                if member.axis == "in" or self._masks_outputs(group, member):
                    self._apply(tensors, module, member, mask)
        return tensors

    def _masks_outputs(self, group: ChannelGroup, member: Member) -> bool:
        # A group that nobody reads is masked where it is written.
        return self.masking == "both" or all(other.axis == "out" for other in group.members)

    def _apply(
        self, tensors: dict[str, Tensor], module: nn.Module, member: Member, mask: Tensor
    ) -> None:
        index = self._index.get(member)
        mask = mask if index is None else mask[index]
        weight = f"{member.module}.weight"
        if isinstance(module, PaddedShortcut):
            scale = mask if member.axis == "out" else mask[module.source]
            tensors[weight] = tensors.get(weight, module.weight) * scale
            return
        after = tensors[weight].ndim - (1 if member.axis == "out" else 2)
        tensors[weight] = tensors[weight] * mask.view(-1, *(1,) * after)
        bias = f"{member.module}.bias"
        if member.axis == "out" and bias in tensors:
            tensors[bias] = tensors[bias] * mask

    @contextmanager
    def _modes(self, batch_statistics: bool) -> Iterator[None]:
        """Eval mode, dropout off, but for batch norms that use the batch; put back afterwards."""
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        for norm in self._norms:
            norm.training = batch_statistics
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
