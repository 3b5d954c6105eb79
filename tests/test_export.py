"""Exported models compute what the model itself does, whatever the sizes that are left free."""

import json

import onnx
import pytest
import torch
from tiny import HEADED_CONFIG, random_tensor, tiny_sam

from automl.sam.config import PACKAGED_DATA
from search_spaces import Subnet
from trainables.data.pictures import Pictures
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.export import export_programs, write_onnx, write_torch
from trainables.sam.export_check import TOLERANCE, differences
from trainables.sam.exported import ask, measure_exported, run_onnx, run_torch
from trainables.sam.model_json import describe
from trainables.sam.quantise import quantise
from trainables.sam.standalone import extract
from trainables.sam.supernet import Supernet

SUBNET = Subnet((0, 1, 3), (64, 128, 128), (1, 3, 4))
VAL = Pictures(PACKAGED_DATA["nuclei"] / "val.parquet")


@pytest.fixture(scope="module")
def alone():
    return extract(tiny_sam(config=HEADED_CONFIG), HEADED_CONFIG, SUBNET)


@pytest.fixture(scope="module")
def size(alone):
    return alone.image_encoder.img_size


@pytest.fixture(scope="module")
def programs(alone):
    return export_programs(alone)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def onnx_folder(programs, size, folder):
    write_onnx(programs, size, folder)
    return folder


@pytest.fixture(scope="module", params=["onnx", "torch"])
def run(request, programs, folder):
    if request.param == "onnx":
        return run_onnx(request.getfixturevalue("onnx_folder"))
    write_torch(programs, folder)
    return run_torch(folder)


def test_on_a_real_picture_all_outputs_are_the_models_own(run, alone):
    found = differences(run, alone, VAL[0].pixels)
    assert set(found) == {"image_embeddings", "masks", "iou_predictions", "low_res_masks"}
    assert max(found.values()) < TOLERANCE
    # The measure sees a difference where there is one.
    other = extract(tiny_sam(seed=1, config=HEADED_CONFIG), HEADED_CONFIG, SUBNET)
    assert min(differences(run, other, VAL[0].pixels).values()) > TOLERANCE


@torch.no_grad()
def test_batch_prompts_points_and_picture_size_are_free(run, alone, size):
    for batch in (1, 3):
        pictures = random_tensor(batch, 3, size, size)
        (found,) = run("encoder", [pictures])
        torch.testing.assert_close(found, alone.image_encoder(pictures), rtol=1e-4, atol=1e-4)
    grid = size // 16
    embedding = random_tensor(1, 256, grid, grid)
    for prompts, points, shape in ((1, 1, (33, 90)), (1, 4, (90, 33)), (5, 2, (57, 57))):
        coords = random_tensor(prompts, points, 2).sigmoid() * size
        labels = torch.tensor([[1.0, 0.0, 0.0, 1.0]])[:, :points].repeat(prompts, 1)
        masks, ious, low = ask(run, embedding, (coords, labels), shape)
        assert masks.shape == (prompts, 4, *shape)
        assert ious.shape == (prompts, 4)
        # One prompt's answer does not depend on those beside it.
        alone_masks, *_ = ask(run, embedding, (coords[-1:], labels[-1:]), shape)
        torch.testing.assert_close(masks[-1:], alone_masks, rtol=1e-4, atol=1e-4)
        assert low.shape == (prompts, 4, 4 * grid, 4 * grid)


@torch.no_grad()
def test_the_decoder_is_segment_anythings_own_export(run, alone, size):
    from segment_anything.utils.onnx import SamOnnxModel

    theirs = SamOnnxModel(alone, return_single_mask=False)
    grid = size // 16
    inputs = (
        random_tensor(1, 256, grid, grid),
        torch.tensor([[[10.0, 12.0], [40.5, 33.0], [3.0, 5.0], [0.0, 0.0]]]),
        torch.tensor([[2.0, 3.0, 0.0, -1.0]]),
        random_tensor(1, 1, 4 * grid, 4 * grid),
        torch.tensor([1.0]),
        torch.tensor([50.0, 70.0]),
    )
    for found, wanted in zip(run("decoder", inputs), theirs(*inputs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prompts", ["box", "point"])
def test_its_miou_is_that_of_the_model(run, alone, size, prompts):
    examples = EvaluationSet(VAL, image_size=size, prompts=prompts, seed=0, limit=3, max_objects=40)
    supernet = Supernet(alone)
    wanted = examples.evaluate(supernet, supernet.largest)
    found = measure_exported(run, alone, examples.examples, prompts)
    assert found.objects == wanted.objects > 32, "some are decoded apart from the others"
    assert found.miou == pytest.approx(wanted.miou, abs=1e-3)
    assert found.miou_oracle == pytest.approx(wanted.miou_oracle, abs=1e-3)


def test_the_files_name_what_the_description_says(onnx_folder, alone, size):
    about = describe(alone, "onnx")
    assert about["image_size"] == size
    assert json.loads(json.dumps(about)) == about
    for part in ("encoder", "decoder"):
        graph = onnx.load(onnx_folder / about[part]["file"]).graph
        for kind, values in (("inputs", graph.input), ("outputs", graph.output)):
            shapes = {
                value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
                for value in values
            }
            assert shapes.keys() == about[part][kind].keys()
            for name, shape in about[part][kind].items():
                assert len(shapes[name]) == len(shape)
                for size_there, said in zip(shapes[name], shape, strict=True):
                    assert isinstance(size_there, str) == isinstance(said, str)
                    if isinstance(said, int) or kind == "inputs":
                        assert size_there == said


def test_int8_weights_are_smaller_and_near(onnx_folder, alone, size, tmp_path):
    for part in ("encoder", "decoder"):
        (tmp_path / f"{part}.onnx").write_bytes((onnx_folder / f"{part}.onnx").read_bytes())
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    quantise(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before.keys()
    for name, most in (("encoder.onnx", 1.0), ("decoder.onnx", 0.5)):
        assert (tmp_path / name).stat().st_size < most * before[name]
    run = run_onnx(tmp_path)
    found = differences(run, alone, VAL[0].pixels)
    assert TOLERANCE < max(found.values()) < 0.5
    # What is beside a picture in a batch, or a prompt, changes nothing.
    pictures = random_tensor(3, 3, size, size)
    pictures[1:] *= 20
    (together,), (apart,) = run("encoder", [pictures]), run("encoder", [pictures[:1]])
    torch.testing.assert_close(together[:1], apart, rtol=1e-4, atol=1e-4)
