"""What holds for every family of encoders, those that ship and the worked example."""

import dataclasses
import os
import random
from pathlib import Path

import pytest
import torch
from tiny import HEADED_CONFIG, labelled, random_tensor, tiny_sam
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Subnet, SubnetSpace
from search_spaces.errors import InputError
from trainables.costs import cost_table
from trainables.sam.encoder import elastic
from trainables.sam.family import FAMILIES, EncoderConfig
from trainables.sam.mobile_sam import TinyViTConfig
from trainables.sam.models import build_sam, load_sam, save_state_dict
from trainables.sam.parents import parent_encoder
from trainables.sam.scores import SCORES, order_of
from trainables.sam.standalone import extract, load_subnet, save_subnet
from trainables.sam.supernet import Supernet
from trainables.sam.units import reorder
from trainables.sam.vit import ViTConfig

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_family.py"
TINY_VIT = TinyViTConfig(
    image_size=96,  # grids of 12 and 6 tokens: windows of 7 and 4 are padded, those of 3 are not
    mlp_widths=(32, 48, 48, 64, 64),
    channels=(8, 16, 24, 32),
    depths=(1, 2, 2),
    heads=(2, 3, 4),
    windows=(7, 4, 3),
)
PLAIN = dataclasses.replace(
    parent_encoder(f"{EXAMPLE}:SMALL", 96), mlp_widths=(32, 48, 64), dim=24, heads=2
)
CONFIGS = {"vit": HEADED_CONFIG, "tiny_vit": TINY_VIT, "plain": PLAIN}


@pytest.fixture(params=CONFIGS)
def config(request) -> EncoderConfig:
    return CONFIGS[request.param]


@pytest.fixture
def supernet(config):
    supernet = Supernet(tiny_sam(config=config))
    rng = torch.Generator().manual_seed(1)
    for name, buffer in supernet.sam.image_encoder.named_buffers():
        if "running" in name:  # a fresh batch norm's statistics prove nothing
            buffer.uniform_(0.5, 1.5, generator=rng)
    return supernet


@pytest.fixture
def pictures(config):
    return random_tensor(2, 3, config.image_size, config.image_size)


def subnets(config: EncoderConfig) -> list[Subnet]:
    """The parent, each layer alone, each layer missing, and some at random.

    Where heads are elastic, also each layer alone with each number of heads.
    """
    layers = range(config.depth)
    alone = [Subnet((i,), (config.mlp_widths[i] // 2,)) for i in layers]
    without = [
        Subnet(
            tuple(k for k in layers if k != i),
            tuple(w for k, w in enumerate(config.mlp_widths) if k != i),
        )
        for i in layers
    ]
    headed = [
        Subnet((i,), (config.mlp_widths[i],), (heads,))
        for i, full in enumerate(config.full_heads)
        for heads in range(1, full)
    ]
    widths = tuple((w // 4, w // 2, w) for w in config.mlp_widths)
    heads = tuple(tuple(range(1, full + 1)) for full in config.full_heads)
    space = SubnetSpace(widths, (0.0,) + (0.5,) * (config.depth - 1), heads)
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(4)]
    return [space.largest, space.smallest, *alone, *without, *headed, *drawn]


def test_shape_and_encoder_agree_on_what_a_subnet_can_have(supernet, config):
    assert supernet.largest.mlp_widths == config.mlp_widths
    assert supernet.encoder.full_heads == config.full_heads
    if config.full_heads:
        assert len(config.full_heads) == config.depth


def test_a_family_without_elastic_heads_says_so():
    assert PLAIN.full_heads == ()
    supernet, pictures = Supernet(tiny_sam(config=PLAIN)), random_tensor(1, 3, 96, 96)
    with pytest.raises(ValueError, match="heads are not elastic here"):
        supernet(pictures, Subnet((0,), (8,), (1,)))


@torch.no_grad()
def test_the_largest_subnet_is_the_parent(supernet, pictures):
    found = supernet(pictures, supernet.largest)
    side = pictures.shape[-1] // 16
    assert found.shape == (2, 256, side, side)
    assert torch.equal(found, supernet.sam.image_encoder(pictures))


@torch.no_grad()
def test_a_subnet_equals_its_standalone_model(supernet, config, pictures):
    outputs = []
    for subnet in subnets(config):
        alone = extract(supernet.sam, config, subnet)
        sliced = supernet(pictures, subnet)
        torch.testing.assert_close(alone.image_encoder(pictures), sliced, rtol=0, atol=1e-5)
        # The standalone model is a supernet as well, with itself as the largest subnet.
        again = Supernet(alone)
        assert torch.equal(again(pictures, again.largest), alone.image_encoder(pictures))
        outputs.append(sliced)
    distinct = {tuple(output.flatten()[:50].tolist()) for output in outputs}
    assert len(distinct) == len(set(subnets(config)))


def test_every_subnet_costs_what_torch_counts(supernet, config, pictures):
    table = cost_table(supernet.sam)
    for subnet in subnets(config):
        alone = extract(supernet.sam, config, subnet)
        # Torch's counter misses the fused attentions that a CPU takes, with and without gradients.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            alone.image_encoder(pictures[:1])
        costs = table.costs(subnet)
        assert costs.encoder_macs == counter.get_total_flops() // 2
        assert costs.encoder_params == sum(p.numel() for p in alone.image_encoder.parameters())
        assert costs.params == sum(p.numel() for p in alone.parameters())


def test_costs_are_the_same_without_weights(supernet, config):
    with torch.device("meta"):
        shapes = build_sam(config)
    assert cost_table(shapes) == supernet.costs


@pytest.mark.parametrize("name", SCORES)
@torch.no_grad()
def test_reordering_changes_no_output(supernet, pictures, config, name):
    before = supernet(pictures, supernet.largest)
    units = [*supernet.encoder.neurons, *supernet.encoder.attention_heads]
    scores = SCORES[name](supernet, [labelled(pictures)], 0, units)
    assert [len(score) for score in scores] == [*config.mlp_widths, *config.full_heads]
    orders = order_of(scores)
    moved = [order.tolist() != sorted(order.tolist()) for order in orders]
    assert all(moved[: config.depth])
    assert any(moved[config.depth :]) == bool(config.full_heads)
    reorder(units, orders)
    after = supernet(pictures, supernet.largest)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    if name == "random":  # follows the units' places, not the units
        return
    again = SCORES[name](supernet, [labelled(pictures)], 0, units)
    within = 1e-3 if name == "pass" else 1e-4  # its updates carry rounding on
    for old, new in zip(scores, again, strict=True):
        wanted = old.sort(descending=True).values
        atol = within * float(wanted.abs().max())
        torch.testing.assert_close(new, wanted, rtol=within, atol=atol)


def test_a_subnets_gradient_stays_within_its_slice(supernet, config, pictures):
    subnet = subnets(config)[1]
    supernet.train()
    supernet(pictures, subnet).square().sum().backward()
    for layer, (block, mlp) in enumerate(
        zip(supernet.encoder.blocks, supernet.encoder.mlps, strict=True)
    ):
        if layer not in subnet.layers:
            assert all(p.grad is None for p in block.parameters())
            continue
        width = subnet.mlp_widths[subnet.layers.index(layer)]
        assert mlp.first.weight.grad[:width].abs().sum() > 0
        assert mlp.first.weight.grad[width:].abs().sum() == 0
        assert mlp.second.weight.grad[:, width:].abs().sum() == 0


def test_recomputing_blocks_gives_the_same_gradients_and_keeps_less(supernet, config, pictures):
    subnet, encoder = subnets(config)[-1], supernet.encoder
    parameters = list(encoder.parameters())
    found, kept = [], []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[-1] += tensor.numel()
        return tensor

    for recompute in (False, True):
        kept.append(0)
        tokens = encoder.stem(pictures)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            tokens = encoder.layers(tokens, subnet, recompute=recompute)
        output = encoder.head(tokens)
        assert torch.equal(output, supernet(pictures, subnet, recompute=recompute))
        gradients = torch.autograd.grad(output.square().sum(), parameters, allow_unused=True)
        found.append([output, *(g for g in gradients if g is not None)])
    plain, recomputed = found
    assert len(plain) == len(recomputed) > 10
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
    assert kept[1] < kept[0] / 2


def test_training_leaves_the_statistics_of_batch_norms(supernet, pictures):
    before = {name: t.clone() for name, t in supernet.named_buffers()}
    supernet.train()
    trained = supernet(pictures, supernet.largest)
    assert all(torch.equal(t, before[name]) for name, t in supernet.named_buffers())
    assert torch.equal(supernet.eval()(pictures, supernet.largest), trained)


def test_a_standalone_model_survives_the_disk(supernet, config, pictures, tmp_path):
    subnet = subnets(config)[-1]
    alone = extract(supernet.sam, config, subnet)
    save_subnet(alone, config, subnet, tmp_path / "subnet")
    again = load_subnet(tmp_path / "subnet")
    with torch.no_grad():
        assert torch.equal(again.image_encoder(pictures), alone.image_encoder(pictures))


def test_a_subclass_that_names_no_family_takes_none_over() -> None:
    class Instrumented(ViTConfig):
        pass

    assert FAMILIES["vit"] is ViTConfig


def test_a_configuration_survives_json(config):
    assert EncoderConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("vit_x", "model: 'vit_x' is unknown; choose from vit_t, vit_b"),
        ("nowhere.py:SMALL", r"model: nowhere\.py does not exist"),
        (f"{EXAMPLE}:LARGE", "defines no EncoderConfig 'LARGE'"),
        (f"{EXAMPLE}:Block", "defines no EncoderConfig 'Block'"),
        (f"{EXAMPLE}", "is unknown; choose from"),
    ],
)
def test_a_parent_that_is_not_there_is_named(model, message):
    with pytest.raises(InputError, match=message):
        parent_encoder(model)


def test_the_example_loads_by_its_file(tmp_path):
    config = parent_encoder(f"{EXAMPLE}:SMALL")
    sam = tiny_sam(config=config)
    save_state_dict(sam.state_dict(), tmp_path / "small.safetensors", torch.float32)
    loaded = load_sam(f"{EXAMPLE}:SMALL", tmp_path / "small.safetensors")
    assert all(
        torch.equal(loaded.state_dict()[name], tensor) for name, tensor in sam.state_dict().items()
    )


def checkpoint() -> Path:
    folder = os.environ.get("SUPERSAM_DATA")
    if folder is None:
        pytest.skip("SUPERSAM_DATA names no folder with MobileSAM's weights")
    return Path(folder) / "mobile_sam" / "mobile_sam.pt"


def test_mobile_sam_loads_strictly():
    path = checkpoint()
    state = torch.load(path, weights_only=True)
    sam = load_sam("mobile_sam", path)
    loaded = sam.state_dict()
    unused = ("image_encoder.norm_head.", "image_encoder.head.")
    assert {name for name in state if name not in loaded} == {
        name for name in state if name.startswith(unused)
    }
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    widths = elastic(sam.image_encoder).largest.mlp_widths
    assert widths == (512,) * 2 + (640,) * 6 + (1280,) * 2


def test_mobile_sam_is_refused_as_another_family():
    with pytest.raises(InputError, match=r"is no vit_b: it lacks image_encoder\.pos_embed"):
        load_sam("vit_b", checkpoint())
