"""What PASS's hypernetwork learns about a SAM's units, and that it leaves SAM as it was."""

import copy

import pytest
import torch
from tiny import batch_loss

from trainables.data.batches import Batch
from trainables.sam.scores import SCORES, visual_prompt
from trainables.sam.supernet import Supernet


def without(supernet: Supernet, scores: list[torch.Tensor], share: float) -> Supernet:
    """Only the units of the highest scores are read, this share of all layers' together."""
    masked = copy.deepcopy(supernet)
    threshold = torch.cat(scores).quantile(1 - share)
    with torch.no_grad():
        for units, score in zip(masked.encoder.neurons, scores, strict=True):
            units.second.weight *= (score > threshold).float()
    return masked


def test_it_learns_which_neurons_can_go(supernet: Supernet, batch: Batch, monkeypatch) -> None:
    """At the smallest share the loss is lower than where training starts: relative magnitudes."""
    monkeypatch.setattr(visual_prompt, "STEPS", 24)
    neurons = supernet.encoder.neurons
    start = [score / score.mean() for score in SCORES["magnitude"](supernet, [], 0, neurons)]
    found = SCORES["pass"](supernet, [batch], 0, neurons)
    before, after = (
        float(batch_loss(net, batch, net.largest))
        for net in (without(supernet, scores, 0.25) for scores in (start, found))
    )
    assert after < before


def test_another_seed_is_another_hypernetwork(supernet: Supernet, batch: Batch) -> None:
    neurons = supernet.encoder.neurons
    state = torch.random.get_rng_state()
    first, second = (SCORES["pass"](supernet, [batch], seed, neurons) for seed in (0, 1))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_loss_that_is_not_finite_is_said(supernet: Supernet, batch: Batch) -> None:
    with torch.no_grad():
        supernet.encoder.neurons[0].second.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="the loss of a masked SAM is nan"):
        SCORES["pass"](supernet, [batch], 0, supernet.encoder.neurons)
