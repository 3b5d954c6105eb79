"""SAM ViT-B at its own size: a checkpoint as segment_anything's own `build_sam_vit_b` saves it."""

import pytest
import torch
from segment_anything import build_sam_vit_b

from search_spaces import Subnet
from trainables.sam.models import load_sam
from trainables.sam.supernet import Supernet

LAYERS = (0, 1, 2)
"""Two windowed layers and a global one; all twelve take half a minute."""


@pytest.fixture(scope="module")
def theirs():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sam = build_sam_vit_b()
        for name, p in sam.named_parameters():
            if "pos" in name:  # zero when fresh: the comparison would say nothing of them
                torch.nn.init.normal_(p, std=0.3)
    return sam.eval()


@pytest.fixture(scope="module")
def checkpoint(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("vit_b") / "sam_vit_b.pth"
    torch.save(theirs.state_dict(), path)
    return path


def first_layers(sam, count, picture):
    """What segment_anything's own code gives with the first so many layers."""
    whole = sam.image_encoder.blocks
    sam.image_encoder.blocks = whole[:count]
    try:
        return sam.image_encoder(picture)
    finally:
        sam.image_encoder.blocks = whole


@torch.no_grad()
def test_a_loaded_sam_is_segment_anythings_to_the_bit(theirs, checkpoint):
    ours = load_sam("vit_b", checkpoint)
    assert all(
        torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items()
    )
    picture = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    expected = first_layers(theirs, len(LAYERS), picture)
    assert torch.equal(first_layers(ours, len(LAYERS), picture), expected)
    # The elastic view takes its own way through a global layer's attention at this size.
    elastic = Supernet(ours)(picture, Subnet(LAYERS, (3072,) * len(LAYERS)))
    torch.testing.assert_close(elastic, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_checkpoint_for_1024_pixels_serves_256(theirs, checkpoint):
    smaller = Supernet(load_sam("vit_b", checkpoint, image_size=256))
    picture = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    found = smaller(picture, Subnet(LAYERS, (3072,) * len(LAYERS)))
    assert found.shape == (1, 256, 16, 16)
    # Windows see the same offsets at any size; the table of a global layer spans the new grid.
    tables = smaller.sam.image_encoder.blocks
    before = theirs.image_encoder.blocks
    assert torch.equal(tables[0].attn.rel_pos_h, before[0].attn.rel_pos_h)
    assert tables[2].attn.rel_pos_h.shape == (31, 64)
    assert before[2].attn.rel_pos_h.shape == (127, 64)
    # segment_anything stretches a table to the grid that it meets, by the same rule.
    theirs_at_256 = before[2].attn(smaller.encoder.stem(picture))
    ours_at_256 = tables[2].attn(smaller.encoder.stem(picture))
    torch.testing.assert_close(ours_at_256, theirs_at_256, rtol=0, atol=1e-5)
