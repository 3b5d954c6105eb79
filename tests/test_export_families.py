"""Encoders of other families as ONNX and by torch.export, with weights inside and beside."""

import onnxruntime
import pytest
import torch
from test_families import CONFIGS
from tiny import random_tensor, tiny_sam

from search_spaces import Subnet
from trainables.sam.export import ONE_FILE, export_programs, write_onnx, write_torch
from trainables.sam.standalone import extract

SUBNETS = {
    "tiny_vit": Subnet((0, 2, 3, 4), (16, 48, 32, 64), (1, 2, 4, 3)),
    "plain": Subnet((0, 2), (32, 40)),
}


@pytest.mark.parametrize("family", SUBNETS)
@torch.no_grad()
def test_an_exported_encoder_is_the_models(family, tmp_path):
    config = CONFIGS[family]
    alone = extract(tiny_sam(config=config), config, SUBNETS[family])
    programs = export_programs(alone, ["encoder"])
    write_torch(programs, tmp_path)
    beside = family == "plain"
    write_onnx(programs, config.image_size, tmp_path, one_file=1 if beside else ONE_FILE)
    names = {"encoder.onnx", "encoder.pt2"} | ({"encoder.onnx.data"} if beside else set())
    assert {path.name for path in tmp_path.iterdir()} == names
    weights = sum(tensor.nbytes for tensor in programs["encoder"].state_dict.values())
    assert ((tmp_path / "encoder.onnx").stat().st_size > weights) != beside
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    for batch in (1, 3):
        pictures = random_tensor(batch, 3, config.image_size, config.image_size)
        expected = alone.image_encoder(pictures)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(program(pictures), expected, rtol=0, atol=1e-4)
        (found,) = session.run(None, {"images": pictures.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)
