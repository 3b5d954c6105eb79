import json

import numpy as np
import pytest
import torch
from tiny import CONFIG, random_subnets, synthetic_picture

from search_spaces import Subnet
from search_spaces.errors import InputError
from trainables.sam.encoder import elastic
from trainables.sam.segment_anything_import import Sam, SamPredictor
from trainables.sam.standalone import extract, load_subnet, save_subnet

SUBNETS = random_subnets(7)
SUBNET = SUBNETS[3]


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


def test_a_loaded_subnet_works_in_segment_anythings_predictor(sam, folder):
    pixels, _ = synthetic_picture(np.random.default_rng(0), 90, 60, objects=2)
    answers = []
    for model in (extract(sam, CONFIG, SUBNET), load_subnet(folder)):
        predictor = SamPredictor(model)
        predictor.set_image(pixels)
        answers.append(predictor.predict(box=np.array([5, 5, 40, 60]), multimask_output=True))
    (masks, ious, low), (masks_again, ious_again, low_again) = answers
    assert masks.shape == (3, 90, 60)
    assert masks.dtype == np.bool_
    assert 0 < masks.mean() < 1
    for a, b in ((masks, masks_again), (ious, ious_again), (low, low_again)):
        assert np.array_equal(a, b)


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
