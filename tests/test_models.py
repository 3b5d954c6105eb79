import dataclasses
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from segment_anything.modeling.image_encoder import get_rel_pos
from tiny import CONFIG, random_tensor, tiny_sam

from search_spaces.errors import InputError
from trainables.sam.models import load_sam, read_state_dict, save_state_dict
from trainables.sam.parents import PARENTS, parent_encoder


@pytest.fixture(autouse=True)
def _tiny_is_known(monkeypatch):
    monkeypatch.setitem(PARENTS, "tiny", CONFIG)


@pytest.fixture
def checkpoint(sam, tmp_path):
    path = tmp_path / "sam.safetensors"
    save_state_dict(sam.state_dict(), path, torch.float32)
    return path


def rewritten(checkpoint, change):
    """The path of a checkpoint whose state dict went through `change`."""
    state = read_state_dict(checkpoint)
    change(state)
    path = checkpoint.with_name("changed.safetensors")
    save_file(state, path)
    return path


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_checkpoint_loads_to_the_bit_from_either_format(sam, checkpoint, tmp_path):
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    for path in (checkpoint, tmp_path / "sam.pth"):
        loaded = load_sam("tiny", path)
        assert_same_state(loaded.state_dict(), sam.state_dict())
        assert not loaded.training


def test_half_precision_checkpoints_load_as_single(sam, tmp_path):
    path = tmp_path / "half.safetensors"
    save_state_dict(sam.state_dict(), path, torch.float16)
    halved = {name: t.half().float() for name, t in sam.state_dict().items()}
    assert_same_state(load_sam("tiny", path).state_dict(), halved)


def test_the_known_parents_are_sams_own_shapes():
    assert [PARENTS[name].depth for name in ("vit_b", "vit_l", "vit_h")] == [12, 24, 32]
    assert parent_encoder("vit_b", 512) == dataclasses.replace(PARENTS["vit_b"], image_size=512)
    assert parent_encoder("vit_b") == PARENTS["vit_b"]


def test_an_unknown_model_is_named_with_the_known_ones(checkpoint):
    with pytest.raises(InputError, match="'vit_x' is unknown; choose from vit_t, vit_b"):
        load_sam("vit_x", checkpoint)


def test_an_image_size_between_patches_is_refused(checkpoint):
    with pytest.raises(InputError, match="image_size: 72 is not a multiple of 16"):
        load_sam("tiny", checkpoint, image_size=72)


def test_a_missing_tensor_is_named(checkpoint):
    path = rewritten(checkpoint, lambda s: s.pop("mask_decoder.iou_token.weight"))
    with pytest.raises(InputError, match=r"lacks mask_decoder\.iou_token\.weight \(1 such"):
        load_sam("tiny", path)


def test_an_unknown_tensor_is_named(checkpoint):
    path = rewritten(checkpoint, lambda s: s.update({"head.weight": torch.ones(2)}))
    with pytest.raises(InputError, match=r"is no tiny: it has unknown head\.weight \(1 such"):
        load_sam("tiny", path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("image_encoder.blocks.2.mlp.lin1.weight", (64, 32)),
        ("image_encoder.pos_embed", (1, 4, 4, 48)),
        ("image_encoder.blocks.1.attn.rel_pos_h", (7, 8)),
        ("image_encoder.blocks.1.attn.rel_pos_w", (7, 2, 16)),
    ],
)
def test_a_misshapen_tensor_is_named_with_both_shapes(sam, checkpoint, name, shape):
    path = rewritten(checkpoint, lambda s: s.update({name: torch.zeros(shape)}))
    with pytest.raises(InputError) as raised:
        load_sam("tiny", path)
    assert f"{name} has shape {list(shape)}" in str(raised.value)
    assert str(list(sam.state_dict()[name].shape)) in str(raised.value)


def test_a_checkpoint_of_another_depth_is_refused(checkpoint, monkeypatch):
    monkeypatch.setitem(PARENTS, "deeper", dataclasses.replace(CONFIG, mlp_widths=(128,) * 5))
    with pytest.raises(InputError, match=r"is no deeper: it lacks image_encoder\.blocks\.4\."):
        load_sam("deeper", checkpoint)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth does not exist"):
        load_sam("tiny", tmp_path / "nowhere.pth")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("junk", [b"", b"no weights", b"PK\x03\x04" + bytes(60), b"\x00" * 9])
def test_junk_is_refused(tmp_path, suffix, junk):
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(junk)
    with pytest.raises(InputError, match=r"junk\.\w+ can't be read as weights"):
        load_sam("tiny", path)


@pytest.mark.parametrize("junk", [b"\x80\x02.", b"\x80\x02h\x07."])
def test_junk_that_begins_like_a_pickle_is_refused(tmp_path, junk):
    path = tmp_path / "junk.pth"
    path.write_bytes(junk)
    with pytest.raises(InputError, match=r"junk\.pth can't be read as weights"):
        read_state_dict(path)


def test_a_truncated_checkpoint_is_refused(sam, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(sam.state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"cut\.pth can't be read as weights"):
        load_sam("tiny", path)


class _MakesFolder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path):
    torch.save({"a": _MakesFolder(tmp_path / "ran")}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(_MakesFolder(tmp_path / "ran")))
    for name in ("evil.pth", "bare.pth"):
        with pytest.raises(InputError, match=f"{name} can't be read as weights"):
            load_sam("tiny", tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[torch.ones(2)], {"model": {"a": torch.ones(2)}}, {"a": 1}])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth holds no table of tensors"):
        load_sam("tiny", tmp_path / "other.pth")


@pytest.mark.parametrize("image_size", [32, 96, 128])
def test_relative_positions_are_resized_as_segment_anything_does(sam, checkpoint, image_size):
    loaded = load_sam("tiny", checkpoint, image_size=image_size)
    grid = image_size // 16
    for layer, (old, new) in enumerate(
        zip(sam.image_encoder.blocks, loaded.image_encoder.blocks, strict=True)
    ):
        for name in ("rel_pos_h", "rel_pos_w"):
            before, after = getattr(old.attn, name), getattr(new.attn, name)
            if layer in CONFIG.global_layers:
                assert after.shape == (2 * grid - 1, 16)
                assert torch.equal(after, _stretched(before, grid))
            else:
                assert torch.equal(after, before)


def _stretched(table, grid):
    """Row `d` is what segment_anything adds at relative position d - (grid - 1)."""
    positions = get_rel_pos(grid, grid, table)
    rows = [positions[max(0, d), max(0, -d)] for d in range(1 - grid, grid)]
    return torch.stack(rows)


@pytest.mark.parametrize("image_size", [32, 96])
def test_a_resized_encoder_computes_what_segment_anything_would_with_the_old_tables(
    sam, checkpoint, image_size
):
    loaded = load_sam("tiny", checkpoint, image_size=image_size).image_encoder
    theirs = tiny_sam(config=dataclasses.replace(CONFIG, image_size=image_size)).image_encoder
    theirs.load_state_dict(loaded.state_dict())
    for old, block in zip(sam.image_encoder.blocks, theirs.blocks, strict=True):
        block.attn.rel_pos_h, block.attn.rel_pos_w = old.attn.rel_pos_h, old.attn.rel_pos_w
    pictures = random_tensor(2, 3, image_size, image_size)
    with torch.no_grad():
        assert torch.equal(loaded(pictures), theirs(pictures))


@pytest.mark.parametrize("image_size", [32, 96])
@pytest.mark.parametrize("axis", [1, 2])
def test_absolute_positions_are_resized_along_their_own_axes(sam, tmp_path, image_size, axis):
    state = sam.state_dict()
    ramp = torch.arange(4.0).reshape([-1 if a == axis else 1 for a in range(4)])
    slopes = torch.linspace(-1, 1, 32)
    state["image_encoder.pos_embed"] = (ramp * slopes).expand(1, 4, 4, 32).clone()
    save_state_dict(state, tmp_path / "sam.safetensors", torch.float32)
    loaded = load_sam("tiny", tmp_path / "sam.safetensors", image_size=image_size)
    grid = image_size // 16
    found = loaded.image_encoder.pos_embed
    assert found.shape == (1, grid, grid, 32)
    other = 3 - axis
    torch.testing.assert_close(found, found.narrow(other, 0, 1).expand_as(found))
    line = found.narrow(other, 0, 1).reshape(grid, 32)
    assert (line.diff(dim=0) * slopes.sign() > 0).all()
    torch.testing.assert_close(line.mean(0), 1.5 * slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("image_size", [32, 96])
def test_resizing_touches_nothing_but_positions(sam, checkpoint, image_size):
    loaded = load_sam("tiny", checkpoint, image_size=image_size).state_dict()
    before = sam.state_dict()
    changed = {name for name in before if not torch.equal(loaded[name], before[name])}
    tables = [f"image_encoder.blocks.{i}.attn.rel_pos_{a}" for i in (1, 3) for a in "hw"]
    assert changed == {"image_encoder.pos_embed", *tables}
