import copy

import pytest
import torch
from small_networks import coloured_images, network_of, pictures

from search_spaces.errors import InputError
from trainables.channel_pruning.baselines import BASELINES, BaselineSettings, prune
from trainables.channel_pruning.budgets import Budget
from trainables.channel_pruning.costs import count_macs
from trainables.channel_pruning.data.batches import Augment
from trainables.channel_pruning.dependencies import slimmed
from trainables.channel_pruning.fine_tuning import FineTuneSettings
from trainables.channel_pruning.prunable import Prunable

SIZE = 16
SETTINGS = BaselineSettings(
    rounds=40,
    growths=2,
    learning=FineTuneSettings(
        batch_size=8, weight_decay=0, recalibration=0, augment=Augment(shift=0)
    ),
)


@pytest.fixture(scope="module")
def images():
    return coloured_images(size=SIZE)


@pytest.mark.parametrize("method", BASELINES)
@torch.no_grad()
def test_a_baseline_prunes_to_the_budget(method, images):
    prunable = Prunable.of(network_of("cifar"), SIZE)
    before = copy.deepcopy(prunable.network.state_dict())
    rng = torch.get_rng_state()
    with torch.enable_grad():
        found = prune(
            method, prunable, images, Budget(share=0.5), SETTINGS, learning_steps=2, seed=0
        )
    assert torch.equal(torch.get_rng_state(), rng)
    share = count_macs(found.network, SIZE) / count_macs(prunable.network, SIZE)
    assert 0.4 < share <= 0.5
    assert prunable.macs(found.kept) == count_macs(found.network, SIZE)
    assert all(torch.equal(t, prunable.network.state_dict()[k]) for k, t in before.items())
    if not BASELINES[method].learns:
        # The channels that it names make the network that it made.
        slim = slimmed(prunable.network, prunable.groups, found.kept, SIZE)
        torch.testing.assert_close(slim(pictures(2, SIZE)), found.network(pictures(2, SIZE)))


def test_learning_to_be_sparse_changes_the_weights(images):
    prunable = Prunable.of(network_of("cifar"), SIZE)
    short, long = (
        prune(
            "growing_reg", prunable, images, Budget(share=0.9), SETTINGS, learning_steps=n, seed=0
        )
        for n in (1, 4)
    )
    assert not torch.equal(short.network.linear.weight[0, 0], long.network.linear.weight[0, 0])


def test_chance_follows_from_the_seed(images):
    prunable = Prunable.of(network_of("vgg"), SIZE)
    kept = [
        prune(
            "random", prunable, images, Budget(share=0.5), SETTINGS, learning_steps=0, seed=seed
        ).kept
        for seed in (0, 0, 1)
    ]
    assert kept[0] == kept[1] != kept[2]


def test_baselines_refuse_budgets_that_they_can_not_keep(images):
    prunable = Prunable.of(network_of("cifar"), SIZE)
    for budget in (
        Budget(share=1e-4),
        Budget(measure="channels"),
        Budget(allocation="uniform"),
    ):
        with pytest.raises(InputError, match="budget: "):
            prune("group_l1", prunable, images, budget, SETTINGS, learning_steps=0, seed=0)
