import dataclasses

import pytest
import torch
from tiny import CONFIG, random_subnets, tiny_sam
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Subnet
from trainables.costs import cost_table, latency_ms
from trainables.sam.encoder import elastic
from trainables.sam.models import build_sam
from trainables.sam.parents import PARENTS
from trainables.sam.standalone import extract

SUBNETS = random_subnets(6)


def counted_macs(model, *inputs) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("subnet", SUBNETS)
def test_macs_equal_torchs_own_count_of_the_extracted_encoder(sam, images, subnet):
    alone = extract(sam, CONFIG, subnet)
    expected = counted_macs(alone.image_encoder, images[:1])
    assert cost_table(sam).costs(subnet).encoder_macs == expected


@pytest.mark.parametrize("subnet", SUBNETS)
def test_params_equal_those_of_the_extracted_model(sam, subnet):
    alone = extract(sam, CONFIG, subnet)
    costs = cost_table(sam).costs(subnet)
    assert costs.encoder_params == sum(p.numel() for p in alone.image_encoder.parameters())
    assert costs.params == sum(p.numel() for p in alone.parameters())


@pytest.mark.parametrize("window_size", [0, 2, 4, 5, 14])
@pytest.mark.parametrize("image_size", [48, 80])
def test_macs_equal_torchs_own_count_for_other_grids_and_windows(window_size, image_size):
    config = dataclasses.replace(CONFIG, window_size=window_size, image_size=image_size)
    sam = tiny_sam(config=config)
    encoder = elastic(sam.image_encoder)
    pictures = torch.zeros(1, 3, image_size, image_size)
    costs = cost_table(sam).costs(encoder.largest)
    assert costs.encoder_macs == counted_macs(encoder, pictures, encoder.largest)


def test_figures_of_sam_vit_b():
    with torch.device("meta"):
        sam = build_sam(PARENTS["vit_b"])
        pictures = torch.empty(1, 3, 1024, 1024)
    costs = cost_table(sam).costs(elastic(sam.image_encoder).largest)
    assert costs.encoder_params == 89_670_912
    assert costs.params == 93_735_472
    assert costs.encoder_macs == pytest.approx(486e9, rel=1e-3)
    assert costs.encoder_macs == counted_macs(sam.image_encoder, pictures)


def test_a_single_head_is_the_layers_own():
    config = dataclasses.replace(CONFIG, num_heads=1)
    table = cost_table(tiny_sam(config=config))
    assert all(layer.macs_per_head == 0 for layer in table.layers)
    alone = build_sam(config).image_encoder
    expected = counted_macs(alone, torch.zeros(1, 3, 64, 64))
    assert table.costs(elastic(alone).largest).encoder_macs == expected


def test_costs_by_name():
    sam = tiny_sam()
    costs = cost_table(sam).costs(Subnet((1,), (16,)))
    assert costs.to_dict() == {
        "encoder_params": costs.encoder_params,
        "params": costs.params,
        "encoder_macs": costs.encoder_macs,
    }


def test_latency_runs_the_subnet_once_more_than_it_counts(sam, space):
    encoder = elastic(sam.image_encoder)
    ran = []
    encoder.register_forward_hook(lambda _, inputs, output: ran.append((inputs[1], output)))
    assert latency_ms(encoder, space.smallest, runs=3) > 0
    assert [subnet for subnet, _ in ran] == [space.smallest] * 4
    assert not any(output.requires_grad for _, output in ran)
