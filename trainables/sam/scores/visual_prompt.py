"""PASS's score: a visual prompt and a recurrent hypernetwork learn which units SAM can go without.

PASS (arXiv 2407.17412) prunes the channels of classifiers; SuperSAM (arXiv 2501.08504) orders a
SAM's units by Wanda. Here PASS orders a SAM's units, which neither paper has. Pictures go one at a
time and gradients are summed over all of them before each update: batches of any size give the
same, and so do several processes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.channel_pruning.cosine import cosine
from trainables.channel_pruning.groups import ChannelGroup, Member
from trainables.channel_pruning.hypernetwork import HyperNetwork, HyperSettings
from trainables.channel_pruning.mask_training import (
    MaskSettings,
    averaged,
    make_optimiser,
    share_at,
    update,
)
from trainables.channel_pruning.masked import straight_through
from trainables.channel_pruning.prompt import PromptSettings
from trainables.channel_pruning.weight_statistics import weight_statistics
from trainables.data.batches import Batch
from trainables.sam.decoder import decode_masks, encode_prompts
from trainables.sam.losses import segmentation_loss
from trainables.sam.scores.blind import magnitude
from trainables.sam.scores.processes import sum_over_processes
from trainables.sam.supernet import Supernet
from trainables.sam.units import Units

STEPS = 24
"""Updates of prompt, encoder and hypernetwork, each on all pictures."""
MASKS = MaskSettings(learning_rate=2.0, start_share=1.0)
"""How prompt, encoder and hypernetwork are trained: as for a classifier's channels, but in longer
steps, since there are few and each is on all pictures."""
SMALLEST_SHARE = 0.25
"""Of the units that stay, of all layers together, once the ramp is over."""
Hook = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]


def pass_score(
    supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """Scores of PASS's hypernetwork after it learnt to mask a frozen SAM's units.

    It is trained as in `channel_pruning/mask_training.py`, on SAM's loss: the share of units that
    stays falls from nearly all to a quarter, one threshold for all layers; masks are 0 or 1 and
    their gradients straight-through. Neurons and heads are two trainings. A unit is known to the
    hypernetwork by its place in the order of magnitudes, not by its number: the score of a unit is
    the same wherever it stands.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    neurons = {id(each.second) for each in supernet.encoder.neurons}
    pictures = list(batches)
    scores: dict[int, Tensor] = {}
    for kind in (True, False):
        chosen = [i for i, each in enumerate(units) if (id(each.second) in neurons) is kind]
        if chosen:
            found = _learnt(supernet, pictures, seed, [units[i] for i in chosen])
            scores |= dict(zip(chosen, found, strict=True))
    return [scores[i] for i in range(len(units))]


@dataclass(frozen=True)
class _Ranked:
    """What the hypernetwork knows of a layer's units, the one of the largest weights first.

    Args:
        units: the layer.
        order: the units, ranked.
        prior: their magnitudes over the layer's mean, ranked.
        statistics: of their weights, ranked: [count, statistics].
    """

    units: Units
    order: Tensor
    prior: Tensor
    statistics: Tensor

    def columns(self, gates: Tensor) -> Tensor:
        """Ranked gates as factors of what the second linear layer reads: [in_features]."""
        by_unit = gates[self.order.argsort()]
        return by_unit.repeat_interleave(self.units.second.in_features // self.units.count)


def _learnt(
    supernet: Supernet, batches: Sequence[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    device = next(supernet.parameters()).device
    settings = HyperSettings(
        prompt=PromptSettings(size=max(1, supernet.encoder.image_size // 16)), temperature=0.0
    )
    groups = _groups(supernet, units)
    layers = _ranked(supernet, units, groups, settings)
    hypernetwork = HyperNetwork(settings, groups, supernet.encoder.image_size, seed=seed)
    hypernetwork.to(device)
    optimiser = make_optimiser(hypernetwork, MASKS)
    average = averaged(hypernetwork, STEPS, MASKS)
    statistics = [layer.statistics for layer in layers]
    prior = [layer.prior for layer in layers]
    thresholds = [float("-inf")] * len(layers)

    def scored() -> list[Tensor]:
        found: list[Tensor] = hypernetwork(statistics, prior, thresholds, range(len(layers)))
        return found

    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = cosine(group["peak"], step, STEPS)
        with torch.enable_grad():
            scores = scored()
            threshold = _threshold(scores, share_at(step, STEPS, SMALLEST_SHARE, MASKS))
            gates = [
                straight_through(score, (score > threshold).float(), threshold, temperature=0)
                for score in scores
            ]
            prompt = hypernetwork.prompt.picture
        slopes = _slopes(supernet, batches, layers, gates, prompt)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward([*gates, prompt], slopes)
        update(hypernetwork, optimiser)
        average.update_parameters(hypernetwork)
        thresholds = [threshold] * len(layers)
    hypernetwork.load_state_dict(average.module.state_dict())
    with torch.no_grad():
        return [
            score[layer.order.argsort()].double().cpu()
            for score, layer in zip(scored(), layers, strict=True)
        ]


def _groups(supernet: Supernet, units: Sequence[Units]) -> list[ChannelGroup]:
    """Each layer's units as a group of channels: what writes and what reads them."""
    names = {id(module): name for name, module in supernet.named_modules(remove_duplicate=False)}
    groups = []
    for i, each in enumerate(units):
        rows = each.first.out_features // (each.groups * each.count)
        columns = each.second.in_features // each.count
        written = tuple(row // rows % each.count for row in range(each.first.out_features))
        read = tuple(column // columns for column in range(each.second.in_features))
        first = Member(names[id(each.first)], "out", written)
        second = Member(names[id(each.second)], "in", read)
        groups.append(ChannelGroup(f"layer {i}", each.count, (first, second)))
    return groups


@torch.no_grad()
def _ranked(
    supernet: Supernet,
    units: Sequence[Units],
    groups: Sequence[ChannelGroup],
    settings: HyperSettings,
) -> list[_Ranked]:
    tables = weight_statistics(supernet, groups, settings.statistics)
    ranked = []
    for each, table, weight in zip(units, tables, magnitude(supernet, [], 0, units), strict=True):
        relative = (weight / weight.mean()).float().to(table.device)
        order = relative.argsort(descending=True, stable=True)
        ranked.append(_Ranked(each, order, relative[order], table[order]))
    return ranked


def _threshold(scores: Sequence[Tensor], share: float) -> float:
    """That which this share of all units is above."""
    ranked = torch.cat([score.detach() for score in scores]).sort(descending=True).values
    kept = round(share * len(ranked))
    if kept >= len(ranked):
        return float(ranked[-1]) - 1
    return float(ranked[kept - 1 : kept + 1].mean())


def _slopes(
    supernet: Supernet,
    batches: Sequence[Batch],
    layers: Sequence[_Ranked],
    gates: Sequence[Tensor],
    prompt: Tensor,
) -> list[Tensor]:
    """The gradient of the mean loss over all pictures, at the gates and at the prompt."""
    leaves = [tensor.detach().requires_grad_() for tensor in (*gates, prompt)]
    totals = [torch.zeros_like(leaf, dtype=torch.float64) for leaf in leaves]
    count = torch.zeros((), dtype=torch.float64, device=prompt.device)
    hooks = [
        layer.units.second.register_forward_pre_hook(_scaled(layer, gate))
        for layer, gate in zip(layers, leaves[:-1], strict=True)
    ]
    try:
        for batch in batches:
            for i in range(len(batch.targets)):
                with torch.enable_grad():
                    loss = _loss(supernet, batch, i, leaves[-1])
                    found = torch.autograd.grad(loss, leaves)
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss of a masked SAM is {loss.item()}")
                for total, gradient in zip(totals, found, strict=True):
                    total += gradient
                count += 1
    finally:
        for hook in hooks:
            hook.remove()
    sum_over_processes([*totals, count])
    return [(total / count).to(leaf.dtype) for total, leaf in zip(totals, leaves, strict=True)]


def _scaled(layer: _Ranked, gate: Tensor) -> Hook:
    def scale(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * layer.columns(gate), *inputs[1:])

    return scale


def _loss(supernet: Supernet, batch: Batch, i: int, prompt: Tensor) -> Tensor:
    """Of one picture with the prompt laid over it."""
    device = prompt.device
    sam = supernet.sam
    mean, deviation = sam.pixel_mean.to(device) / 255, sam.pixel_std.to(device) / 255
    pixels = batch.pictures[i].to(device) * deviation + mean
    prompted = ((pixels + prompt).clamp(0, 1) - mean) / deviation
    embedding = supernet(prompted[None], supernet.largest)
    logits, ious = decode_masks(sam, embedding, encode_prompts(sam, batch.prompts[i]))
    return segmentation_loss(logits, ious, batch.targets[i].to(device), batch.prompts[i])
