import pytest
import torch

from search_spaces import Subnet
from trainables.data.pictures import Pictures
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.layer_worth import layer_worth


@pytest.fixture
def calibration(splits):
    return EvaluationSet(
        Pictures(splits / "val.parquet"), image_size=64, prompts="box", seed=0, limit=3
    )


def test_worth_is_what_the_parent_loses_without_the_layer(supernet, calibration):
    found = list(layer_worth(supernet, calibration))
    assert [worth.layer for worth in found] == [0, 1, 2, 3]
    whole = calibration.evaluate(supernet, supernet.largest).miou
    reference = calibration.embeddings(supernet, supernet.largest)
    for worth in found:
        kept = tuple(i for i in range(4) if i != worth.layer)
        subnet = Subnet(kept, (128,) * 3)
        without = calibration.evaluate(supernet, subnet).miou
        assert worth.miou_lost == whole - without
        errors = [
            float(torch.linalg.vector_norm(e - r) / torch.linalg.vector_norm(r))
            for e, r in zip(calibration.embeddings(supernet, subnet), reference, strict=True)
        ]
        assert worth.embedding_error == pytest.approx(sum(errors) / len(errors))


def test_a_layer_that_does_nothing_is_worth_nothing(supernet, calibration):
    block = supernet.sam.image_encoder.blocks[2]
    with torch.no_grad():
        for p in (*block.attn.proj.parameters(), *block.mlp.lin2.parameters()):
            p.zero_()
    found = list(layer_worth(supernet, calibration))
    assert (found[2].miou_lost, found[2].embedding_error) == (0.0, 0.0)
    assert all(found[i].embedding_error > 0 for i in (0, 1, 3))


def test_worth_comes_layer_by_layer_and_keeps_no_graph(supernet, calibration):
    embeddings = []
    assert supernet.costs  # counted by running the neck on shapes
    supernet.encoder.parent.neck.register_forward_hook(lambda *call: embeddings.append(call[-1]))
    found = layer_worth(supernet, calibration)
    assert next(found).layer == 0
    assert len(embeddings) == 2  # the parent's, and those without the first layer
    assert [worth.layer for worth in found] == [1, 2, 3]
    assert len(embeddings) == 5
    assert not any(embedding.requires_grad for embedding in embeddings)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", ["miou", "embedding"])
def test_without_a_layer_only_those_behind_it_run(supernet, calibration, kind):
    ran = []
    run_block = supernet.encoder.run_block

    def watched(layer, *arguments):
        ran.append(layer)
        return run_block(layer, *arguments)

    supernet.encoder.run_block = watched
    assert len(list(layer_worth(supernet, calibration, kind))) == 4
    assert ran == [0, 1, 2, 3, 1, 2, 3, 2, 3, 3]


def test_the_cheap_worth_is_the_same_error_without_decoding(supernet, calibration):
    whole = list(layer_worth(supernet, calibration))
    decoded = []
    supernet.sam.mask_decoder.transformer.register_forward_hook(lambda *_: decoded.append(1))
    cheap = list(layer_worth(supernet, calibration, "embedding"))
    assert not decoded
    assert all(worth.miou_lost is None for worth in cheap)
    assert [w.embedding_error for w in cheap] == [w.embedding_error for w in whole]
