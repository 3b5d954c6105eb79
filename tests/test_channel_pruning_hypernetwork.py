import pytest
import torch
from small_networks import masks_of, network_of, pictures, random_kept
from torch.nn import functional as F

from search_spaces.errors import InputError
from trainables.channel_pruning.budgets import Budget
from trainables.channel_pruning.dependencies import group_l1
from trainables.channel_pruning.hypernetwork import HyperNetwork, HyperSettings
from trainables.channel_pruning.masked import MaskedNetwork, straight_through
from trainables.channel_pruning.prompt import PromptEncoder, PromptSettings, VisualPrompt
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.scoring import Scorer, find_channels
from trainables.channel_pruning.weight_statistics import STATISTICS, weight_statistics

SIZE = 32


def made(seed: int = 0, network: str = "cifar", **settings):
    prunable = Prunable.of(network_of(network), SIZE)
    hyper = HyperSettings(hidden=16, embedding=8, **settings)
    return HyperNetwork(hyper, prunable.groups, SIZE, seed=seed), prunable


def scores_of(hypernetwork, prunable, thresholds=None):
    return Scorer(hypernetwork, prunable)(thresholds or [0.0] * len(prunable.groups))


@pytest.mark.parametrize(
    ("form", "size", "covered"),
    [("pad", 3, 32**2 - 26**2), ("full", 1, 32**2), ("patch", 5, 25), ("none", 1, 0)],
)
def test_a_prompt_covers_its_region_and_starts_at_zero(form, size, covered):
    prompt = VisualPrompt(PromptSettings(form=form, size=size), SIZE)
    assert int(prompt.region.sum()) == covered
    grey = torch.full((2, 3, SIZE, SIZE), 0.5)
    assert torch.equal(prompt(grey), grey)
    with torch.no_grad():
        prompt.pattern += 1
    changed = (prompt(grey) != grey)[0, 0]
    assert torch.equal(changed, prompt.region[0].bool())
    assert prompt(grey).max() <= 1


def test_a_prompt_may_stay_off_the_pictures():
    prompt = VisualPrompt(PromptSettings(form="full", on_pictures=False), SIZE)
    with torch.no_grad():
        prompt.pattern += 1
    assert torch.equal(prompt(pictures()), pictures())


def test_a_prompt_that_does_not_fit_is_an_input_error():
    for form, size, limit in (("pad", 17, 16), ("patch", 33, 32)):
        with pytest.raises(InputError, match=f"give {limit} at most"):
            VisualPrompt(PromptSettings(form=form, size=size), SIZE)


@torch.no_grad()
def test_weight_statistics_by_hand():
    """The stem's group of the CIFAR net: four convolutions write it, one norm each."""
    network = network_of("cifar")
    prunable = Prunable.of(network, SIZE)
    found = weight_statistics(network, prunable.groups, STATISTICS)
    writers = [network.conv1, network.layer1[0].conv2, network.layer1[1].conv2]
    readers = [network.layer1[0].conv1, network.layer1[1].conv1, network.layer2[0].conv1]
    norms = [network.bn1, network.layer1[0].bn2, network.layer1[1].bn2]
    rows = []
    for c in range(8):
        out = [w.weight[c].flatten() for w in writers]
        into = [w.weight[:, c].flatten() for w in readers]
        rows.append(
            [
                sum(float(w.norm()) for w in out) / 3,
                sum(float(w.abs().mean()) for w in out) / 3,
                sum(float(w.std(correction=0)) for w in out) / 3,
                sum(float(w.norm()) for w in into) / 3,
                sum(float(n.weight[c].abs()) for n in norms) / 3,
            ]
        )
    raw = torch.tensor(rows)
    expected = (raw - raw.mean(0)) / raw.std(0, correction=0)
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)
    for table, width in zip(found, prunable.widths, strict=True):
        assert table.shape == (width, len(STATISTICS))
        torch.testing.assert_close(table.mean(0), torch.zeros(5), atol=1e-5, rtol=0)


def test_statistics_of_what_there_is_none_of_are_zero():
    network = network_of("vgg")  # no norms
    groups = Prunable.of(network, SIZE).groups
    for table in weight_statistics(network, groups, ("norm_scale",)):
        assert torch.equal(table, torch.zeros_like(table))


def test_the_prior_is_group_l1():
    network = network_of("vgg")
    prunable = Prunable.of(network, SIZE)
    found = group_l1(network, prunable.groups, SIZE)[0]
    first, second = network.features[0].weight, network.features[2].weight
    raw = (first.abs().sum((1, 2, 3)) + second.abs().sum((0, 2, 3))).detach()
    torch.testing.assert_close(found, raw / raw.mean())


def test_a_straight_through_mask_is_hard_forward_and_soft_backward():
    scores = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    mask, weights = torch.tensor([1.0, 0, 1]), torch.tensor([1.0, 2, 3])
    plain = straight_through(scores, mask, 0.1, 0)
    assert torch.equal(plain, mask)
    assert torch.equal(torch.autograd.grad((plain * weights).sum(), scores)[0], weights)
    smooth = straight_through(scores, mask, 0.1, 2)
    torch.testing.assert_close(smooth, mask)
    soft = ((scores.detach() - 0.1) / 2).sigmoid()
    expected = weights * soft * (1 - soft) / 2
    torch.testing.assert_close(torch.autograd.grad((smooth * weights).sum(), scores)[0], expected)
    dear = straight_through(scores, mask, 0.1, 0, price=4)
    assert torch.equal(dear, mask)
    assert torch.equal(torch.autograd.grad((dear * weights).sum(), scores)[0], weights / 4)


def loss_of(masked, masks):
    return F.cross_entropy(masked(pictures(), masks), torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize("masking", ["both", "inputs"])
def test_masks_have_the_gradient_of_the_masked_network(masking):
    """Against differences, at masks between 0 and 1, in double precision."""
    prunable = Prunable.of(network_of("cifar").double(), SIZE)
    masked = MaskedNetwork(prunable.network, prunable.groups, masking)
    given, labels = pictures().double(), torch.tensor([0, 1, 2, 3])
    rng = torch.Generator().manual_seed(0)
    masks = [torch.rand(w, generator=rng, dtype=torch.float64) + 0.5 for w in prunable.widths]

    def loss(values):
        return F.cross_entropy(masked(given, values), labels)

    wanted = [m.clone().requires_grad_() for m in masks]
    gradients = torch.autograd.grad(loss(wanted), wanted)

    def moved(group, by):
        return [
            m + by * (torch.arange(len(m)) == 1) if i == group else m for i, m in enumerate(masks)
        ]

    for group in (0, 1, 4, 8):
        difference = float(loss(moved(group, 1e-6)) - loss(moved(group, -1e-6))) / 2e-6
        assert float(gradients[group][1]) == pytest.approx(difference, rel=1e-4, abs=1e-8)


def test_the_frozen_network_has_no_gradient():
    prunable = Prunable.of(network_of("cifar"), SIZE)
    masked = MaskedNetwork(prunable.network, prunable.groups)
    masks = [torch.ones(w, requires_grad=True) for w in prunable.widths]
    loss_of(masked, masks).backward()
    assert all(p.grad is None for p in prunable.network.parameters())
    assert all(mask.grad is not None and mask.grad.any() for mask in masks)


def test_with_masked_inputs_pruned_channels_have_the_gradient_of_reading_them():
    """With both sides masked only a norm's shift tells of a pruned channel; here nothing does."""
    prunable = Prunable.of(network_of("cifar"), SIZE)
    inner = 1  # between the two convolutions of a block
    with torch.no_grad():
        prunable.network.layer1[0].bn1.bias.zero_()
    gradients = {}
    for masking in ("both", "inputs"):
        masked = MaskedNetwork(prunable.network, prunable.groups, masking)
        masks = masks_of(prunable.groups, random_kept(prunable.groups))
        gone = masks[inner] == 0
        assert gone.any()
        for mask in masks:
            mask.requires_grad_()
        loss = F.cross_entropy(masked(pictures(), masks, batch_statistics=True), torch.arange(4))
        gradients[masking] = torch.autograd.grad(loss, masks)[inner][gone]
    assert not gradients["both"].any()
    assert gradients["inputs"].all()


def test_without_learning_the_ranking_is_nearly_group_l1():
    hypernetwork, prunable = made(prior=1e6)
    for found, prior in zip(scores_of(hypernetwork, prunable), prunable.prior(), strict=True):
        assert torch.equal(found.argsort(), prior.argsort())


def test_scores_follow_from_seed_prompt_and_weights():
    hypernetwork, prunable = made()
    before = torch.get_rng_state()
    again, _ = made()
    assert torch.equal(torch.get_rng_state(), before)
    first = scores_of(hypernetwork, prunable)
    assert all(map(torch.equal, first, scores_of(again, prunable)))
    assert not any(map(torch.equal, first, scores_of(made(seed=1)[0], prunable)))
    with torch.no_grad():
        again.prompt.pattern += 0.5
    assert not any(map(torch.equal, first, scores_of(again, prunable)))
    with torch.no_grad():
        prunable.network.layer3[1].conv1.weight[0] *= 3
    changed = scores_of(hypernetwork, prunable)
    assert not torch.equal(first[-1], changed[-1])


def test_each_step_sees_the_mask_of_the_group_before():
    hypernetwork, prunable = made()
    low, high = [0.0] * len(prunable.groups), [0.0] * len(prunable.groups)
    high[3] = 1e9  # group 3 seems to lose all channels
    first, second = (scores_of(hypernetwork, prunable, t) for t in (low, high))
    changed = [not torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert changed == [i > 3 for i in range(len(prunable.groups))]


def test_gradients_reach_prompt_encoder_and_hypernetwork():
    hypernetwork, prunable = made()
    sum(score.square().sum() for score in scores_of(hypernetwork, prunable)).backward()
    for name, p in hypernetwork.named_parameters():
        if name != "encoder.layers.0.weight":  # what it is multiplied by, the prompt, is zero yet
            assert p.grad is not None and p.grad.any(), name


def test_without_a_prompt_there_is_no_encoder():
    hypernetwork, prunable = made(prompt=PromptSettings(form="none"))
    assert not any("encoder" in name for name, _ in hypernetwork.named_parameters())
    first = scores_of(hypernetwork, prunable)
    with torch.no_grad():
        hypernetwork.prompt.pattern += 1
    assert all(map(torch.equal, first, scores_of(hypernetwork, prunable)))


def test_without_the_lstm_groups_are_independent():
    hypernetwork, prunable = made(recurrence="none")
    low = scores_of(hypernetwork, prunable)
    high = scores_of(hypernetwork, prunable, [1e9] * len(prunable.groups))
    assert all(map(torch.equal, low, high))
    with torch.no_grad():
        prunable.network.layer1[0].conv1.weight[0] *= 3
    after = scores_of(hypernetwork, prunable)
    changed = [not torch.equal(a, b) for a, b in zip(low, after, strict=True)]
    # The inner group, and the stream that its convolution reads.
    assert changed == [i in (0, 1) for i in range(len(prunable.groups))]


def test_without_statistics_weights_do_not_matter():
    hypernetwork, prunable = made(statistics=())
    first = scores_of(hypernetwork, prunable)
    with torch.no_grad():
        for p in prunable.network.parameters():
            p *= torch.rand(p.shape, generator=torch.Generator().manual_seed(0))
    assert all(map(torch.equal, first, scores_of(hypernetwork, prunable)))


def test_a_hypernetwork_runs_on_a_deeper_network_of_the_same_widths():
    hypernetwork, _ = made(network="resnet20")
    deeper = Prunable.of(network_of("resnet56"), SIZE)
    selection = find_channels(hypernetwork, deeper, Budget(share=0.5))
    kept = selection.kept(deeper.groups)
    assert 0.47 < deeper.macs(kept) / deeper.table.macs(deeper.widths) <= 0.5
    again = find_channels(hypernetwork, deeper, Budget(share=0.5))
    assert again.kept(deeper.groups) == kept


def test_groups_of_another_depth_use_the_maps_of_similar_ones():
    """Streams those of streams, inner groups those of inner ones at the nearest place."""
    hypernetwork, own = made(network="resnet20")
    assert hypernetwork.places(own.groups) == list(range(12))
    deeper = Prunable.of(network_of("resnet56"), SIZE)
    named = [
        (group.name, own.groups[place].name)
        for group, place in zip(deeper.groups, hypernetwork.places(deeper.groups), strict=True)
    ]
    assert named[:4] == [
        ("conv1", "conv1"),
        ("layer1.0.conv1", "layer1.0.conv1"),
        ("layer1.1.conv1", "layer1.0.conv1"),
        ("layer1.2.conv1", "layer1.0.conv1"),
    ]
    assert dict(named)["layer2.0.conv2"] == "layer2.0.conv2"
    assert dict(named)["layer2.4.conv1"] == "layer2.1.conv1"
    assert dict(named)["layer3.8.conv1"] == "layer3.2.conv1"


def test_a_hypernetwork_of_other_widths_is_an_input_error():
    hypernetwork, _ = made(network="vgg")
    other = Prunable.of(network_of("resnet20"), SIZE)
    with pytest.raises(InputError, match="not made for the 16 channels of conv1"):
        find_channels(hypernetwork, other, Budget())


def test_the_encoder_gives_both_states():
    hidden, cell = PromptEncoder(7)(torch.zeros(3, SIZE, SIZE))
    assert hidden.shape == cell.shape == (1, 7)
    assert not torch.equal(hidden, cell)
