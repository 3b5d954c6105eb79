import json

import numpy as np
import pytest
import torch
from tiny import CONFIG, HEADED_CONFIG, random_subnets, synthetic_picture, tiny_sam

from search_spaces import Subnet
from search_spaces.errors import InputError
from trainables.sam.encoder import elastic
from trainables.sam.segment_anything_import import Sam, SamPredictor
from trainables.sam.standalone import extract, load_subnet, save_subnet

SUBNETS = random_subnets(7)
SUBNET = SUBNETS[3]
HEADED = Subnet((0, 1, 3), (64, 128, 128), (1, 3, 4))


@pytest.fixture
def folder(sam, tmp_path):
    path = tmp_path / "subnets" / SUBNET.key
    save_subnet(extract(sam, CONFIG, SUBNET), CONFIG, SUBNET, path)
    return path


@pytest.mark.parametrize("subnet", SUBNETS)
def test_a_sliced_forward_equals_the_extracted_model(sam, images, subnet):
    alone = extract(sam, CONFIG, subnet)
    with torch.no_grad():
        sliced = elastic(sam.image_encoder)(images, subnet)
        torch.testing.assert_close(alone.image_encoder(images), sliced, rtol=0, atol=1e-5)


def test_an_extracted_layer_has_only_its_heads():
    sam = tiny_sam(config=HEADED_CONFIG)
    blocks = extract(sam, HEADED_CONFIG, HEADED).image_encoder.blocks
    for block, layer, heads in zip(blocks, HEADED.layers, HEADED.heads, strict=True):
        whole, own = sam.image_encoder.blocks[layer].attn, block.attn
        assert own.num_heads == heads
        assert own.scale == whole.scale == 8**-0.5
        assert own.qkv.weight.shape == (3 * heads * 8, 32)
        assert own.proj.weight.shape == (32, heads * 8)
        for kind in range(3):
            ours, theirs = (
                slice(8 * heads * kind, 8 * heads * (kind + 1)),
                slice(32 * kind, 32 * kind + 8 * heads),
            )
            assert torch.equal(own.qkv.weight[ours], whole.qkv.weight[theirs])
            assert torch.equal(own.qkv.bias[ours], whole.qkv.bias[theirs])
        assert torch.equal(own.proj.weight, whole.proj.weight[:, : 8 * heads])
        assert torch.equal(own.proj.bias, whole.proj.bias)
        assert torch.equal(own.rel_pos_h, whole.rel_pos_h)


def test_a_subnet_of_a_subnet_keeps_its_heads(images):
    alone = extract(tiny_sam(config=HEADED_CONFIG), HEADED_CONFIG, HEADED)
    shape = HEADED_CONFIG.reduced(HEADED)
    assert shape.full_heads == (1, 3, 4)
    for subnet in (Subnet((0, 1), (64, 128)), Subnet((1, 2), (64, 128), (2, 4))):
        again = extract(alone, shape, subnet).image_encoder
        sliced = elastic(alone.image_encoder)(images, subnet)
        torch.testing.assert_close(again(images), sliced, rtol=0, atol=1e-5)


def test_subnets_differ_in_what_they_compute(sam, images):
    encoder = elastic(sam.image_encoder)
    with torch.no_grad():
        outputs = [encoder(images, subnet) for subnet in SUBNETS]
    for i, first in enumerate(outputs):
        assert all((first - second).abs().max() > 1e-3 for second in outputs[i + 1 :])


def test_the_extracted_largest_subnet_is_the_parent(sam):
    alone = extract(sam, CONFIG, elastic(sam.image_encoder).largest)
    assert alone.state_dict().keys() == sam.state_dict().keys()
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, sam.state_dict()[name])


def test_an_extracted_model_shares_no_storage_with_the_supernet(sam):
    alone = extract(sam, CONFIG, SUBNET)
    held = {t.untyped_storage().data_ptr() for t in sam.state_dict().values()}
    assert held.isdisjoint(t.untyped_storage().data_ptr() for t in alone.state_dict().values())


@pytest.mark.parametrize("subnet", [Subnet((0, 2, 3), (8, 16, 24)), Subnet((0, 2), (128, 1))])
def test_kept_layers_keep_their_kind_and_width(subnet):
    encoder = CONFIG.reduced(subnet).build()
    windows = [0 if layer in CONFIG.global_layers else 3 for layer in subnet.layers]
    assert [block.window_size for block in encoder.blocks] == windows
    assert [b.mlp.lin1.out_features for b in encoder.blocks] == list(subnet.mlp_widths)
    assert [b.mlp.lin2.in_features for b in encoder.blocks] == list(subnet.mlp_widths)


def test_saved_and_loaded_it_computes_the_same_to_the_bit(sam, images, folder):
    alone = extract(sam, CONFIG, SUBNET)
    again = load_subnet(folder)
    assert type(again) is Sam
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again.image_encoder(images), alone.image_encoder(images))
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, alone.state_dict()[name])


def test_the_folder_says_what_the_subnet_is(folder):
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "subnet.json"}
    description = json.loads((folder / "subnet.json").read_text())
    assert Subnet.from_dict(description) == SUBNET
    assert description["parent_encoder"] == CONFIG.to_dict()


@pytest.mark.parametrize(("config", "subnet"), [(CONFIG, SUBNET), (HEADED_CONFIG, HEADED)])
def test_a_loaded_subnet_works_in_segment_anythings_predictor(config, subnet, tmp_path):
    pixels, _ = synthetic_picture(np.random.default_rng(0), 90, 60, objects=2)
    alone = extract(tiny_sam(config=config), config, subnet)
    save_subnet(alone, config, subnet, tmp_path)
    answers = []
    for model in (alone, load_subnet(tmp_path)):
        predictor = SamPredictor(model)
        predictor.set_image(pixels)
        answers.append(predictor.predict(box=np.array([5, 5, 40, 60]), multimask_output=True))
    (masks, ious, low), (masks_again, ious_again, low_again) = answers
    assert masks.shape == (3, 90, 60)
    assert masks.dtype == np.bool_
    assert 0 < masks.mean() < 1
    for a, b in ((masks, masks_again), (ious, ious_again), (low, low_again)):
        assert np.array_equal(a, b)


def test_what_was_written_before_heads_were_elastic_loads(sam, images, folder):
    path = folder / "subnet.json"
    description = json.loads(path.read_text())
    del description["heads"], description["parent_encoder"]["layer_heads"]
    path.write_text(json.dumps(description))
    expected = extract(sam, CONFIG, SUBNET).image_encoder(images)
    assert torch.equal(load_subnet(folder).image_encoder(images), expected)


@pytest.mark.parametrize("name", ["subnet.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} does not exist; give the folder of a subnet"):
        load_subnet(folder)


def test_another_format_is_refused(folder):
    path = folder / "subnet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(InputError, match=r"subnet\.json describes no subnet: format is 2, not 1"):
        load_subnet(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"no weights"),
        ("subnet.json", b"{"),
        ("subnet.json", b'{"format": 1}'),
        ("subnet.json", b'{"format": 1, "parent_encoder": {"family": "vit"}}'),
        ("model.safetensors", None),
    ],
)
def test_damaged_files_are_named(sam, folder, name, content):
    if content is None:
        other = extract(sam, CONFIG, SUBNETS[1])
        save_subnet(other, CONFIG, SUBNETS[1], folder.with_name("other"))
        content = (folder.with_name("other") / name).read_bytes()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_subnet(folder)
