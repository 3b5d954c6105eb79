import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import network_of
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.errors import InputError
from trainables.channel_pruning.budgets import Budget, channel_prices, check_budget, cost, select
from trainables.channel_pruning.costs import AxisWidth, CostTable, LayerCosts
from trainables.channel_pruning.prunable import Prunable

# Three groups in a chain; the last has no choice.
TABLE = CostTable(
    (
        LayerCosts(9, AxisWidth(None, 3), AxisWidth(0, 1)),
        LayerCosts(9, AxisWidth(0, 1), AxisWidth(1, 1)),
        LayerCosts(1, AxisWidth(1, 4), AxisWidth(2, 1)),
        LayerCosts(1, AxisWidth(2, 1), AxisWidth(None, 10)),
    ),
    (6, 8, 1),
)


def scores(seed: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(c, generator=rng) for c in TABLE.channels]


def counts(selection) -> list[int]:
    return [int(mask.sum()) for mask in selection.masks]


@pytest.mark.parametrize("name", ["cifar", "basic", "bottleneck", "vgg"])
@torch.no_grad()
def test_macs_equal_torchs_own_counter(name):
    network = network_of(name)
    prunable = Prunable.of(network, 32)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    assert prunable.table.macs(prunable.widths) == counter.get_total_flops() // 2


def test_a_price_is_what_a_channel_costs_over_what_all_cost_on_average():
    # 27 k + 9 k l + 4 l m + 10 m MACs for k, l and m channels: 6, 8 and 1 in the whole network.
    each = [27 + 9 * 8, 9 * 6 + 4, 4 * 8 + 10]
    mean = (6 * each[0] + 8 * each[1] + each[2]) / 15
    assert channel_prices(TABLE, Budget()) == pytest.approx([one / mean for one in each])
    assert channel_prices(TABLE, Budget(measure="channels")) == [1, 1, 1]


@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0.2, 1),
    measure=st.sampled_from(["macs", "channels"]),
    allocation=st.sampled_from(["global", "uniform"]),
)
def test_a_selection_keeps_the_budget_and_a_channel_a_group(seed, share, measure, allocation):
    budget = Budget(share=share, measure=measure, allocation=allocation)
    selection = select(scores(seed), TABLE, budget)
    found = counts(selection)
    assert min(found) >= 1
    assert cost(TABLE, found, budget) <= share * cost(TABLE, TABLE.channels, budget) * 1.0001


@given(seed=st.integers(0, 10**6), share=st.floats(0.2, 0.95))
def test_a_global_threshold_keeps_what_scores_highest_and_fills_the_budget(seed, share):
    budget, drawn = Budget(share=share), scores(seed)
    selection = select(drawn, TABLE, budget)
    found, full = counts(selection), cost(TABLE, TABLE.channels, budget)
    for score, mask, threshold in zip(drawn, selection.masks, selection.thresholds, strict=True):
        assert set(selection.thresholds) == {threshold}
        assert mask[score > threshold].all()
        if (mask == 0).any():
            assert score[mask == 1].min() >= score[mask == 0].max()
    for i, count in enumerate(found):
        more = [*found[:i], count + 1, *found[i + 1 :]]
        assert count == TABLE.channels[i] or cost(TABLE, more, budget) > share * full


def test_uniform_keeps_the_same_share_of_each_group():
    prunable = Prunable.of(network_of("cifar"), 32)
    drawn = [torch.rand(w, generator=torch.Generator().manual_seed(w)) for w in prunable.widths]
    selection = select(drawn, prunable.table, Budget(share=0.3, allocation="uniform"))
    shares = [int(m.sum()) / w for m, w in zip(selection.masks, prunable.widths, strict=True)]
    assert max(shares) - min(shares) <= 2 / 8
    for score, mask in zip(drawn, selection.masks, strict=True):
        assert score[mask == 1].min() > score[mask == 0].max()


def test_a_full_budget_keeps_all():
    for allocation in ("global", "uniform"):
        for measure in ("macs", "channels"):
            budget = Budget(share=1, measure=measure, allocation=allocation)
            assert counts(select(scores(0), TABLE, budget)) == list(TABLE.channels)


def test_of_equal_scores_the_earlier_channels_win():
    selection = select([torch.zeros(6), torch.zeros(8), torch.zeros(1)], TABLE, Budget(share=0.5))
    for mask in selection.masks:
        kept = mask.nonzero().flatten().tolist()
        assert kept == list(range(len(kept)))


def test_a_budget_below_one_channel_a_group_is_an_input_error():
    with pytest.raises(InputError, match=r"below one channel a group, which is 0\.07862"):
        check_budget(TABLE, Budget(share=0.05))
    with pytest.raises(InputError, match="of the channels is below one channel a group"):
        check_budget(TABLE, Budget(share=0.1, measure="channels"))
    check_budget(TABLE, Budget(share=0.2))
