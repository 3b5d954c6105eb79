"""What an `Evaluator` gives is compared with `EvaluationSet.evaluate`, to the bit."""

import numpy as np
import pytest
import torch
from test_families import TINY_VIT
from tiny import CONFIG, random_subnets, synthetic_picture, tiny_sam, write_split
from torch.nn import functional as F

from search_spaces import SubnetSpace
from trainables.data.pictures import Pictures
from trainables.sam import evaluator as evaluator_file
from trainables.sam import object_results as object_results_file
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.evaluator import Evaluator
from trainables.sam.object_results import at_full_size, object_results
from trainables.sam.supernet import Supernet

CONFIGS = {"vit": CONFIG, "tiny_vit": TINY_VIT}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Above, below and at the input's size; one with more objects than are decoded at once."""
    path = tmp_path_factory.mktemp("evaluator") / "val.parquet"
    rng = np.random.default_rng(0)
    shapes = [(90, 60, 2), (64, 64, 36), (48, 48, 3), (64, 64, 1), (70, 70, 2), (96, 96, 4)]
    shapes += [(33, 64, 2), (64, 40, 1), (64, 64, 2), (100, 80, 3)]
    write_split(path, [synthetic_picture(rng, *shape) for shape in shapes])
    return Pictures(path)


def supernet_of(config):
    """The decoder's masks and ranks vary: with fresh weights they hardly would."""
    sam = tiny_sam(config=config)
    with torch.no_grad():
        for name, p in sam.mask_decoder.named_parameters():
            if name.startswith(("output_hypernetworks_mlps", "iou_prediction_head")):
                p.mul_(2)
    return Supernet(sam)


@pytest.fixture
def supernet():
    return supernet_of(CONFIG)


def examples_of(pictures, prompts="point", size=64, **changed):
    return EvaluationSet(pictures, image_size=size, prompts=prompts, seed=3, **changed)


def subnets_of(config, count=8):
    """Each second one is the one before it, but for its last layer."""
    widths = tuple((width // 4, width) for width in config.mlp_widths)
    heads = tuple((1, full) for full in config.full_heads)
    space = SubnetSpace(widths, (0.4, 0.0) + (0.4,) * (config.depth - 2), heads)
    found = [s for s in random_subnets(count, space) if s.depth > 1][: count // 2]
    pairs = [(s, s.without({s.layers[-1]}, space.full_heads)) for s in found]
    return [subnet for pair in pairs for subnet in pair]


def told(evaluation):
    return evaluation.metrics, evaluation.ious.ious.tolist(), evaluation.rung_mious


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("prompts", "batch_size"), [("point", 3), ("box", 4), ("mixed", None)])
def test_results_are_those_of_the_plain_evaluation(pictures, name, prompts, batch_size):
    config = CONFIGS[name]
    supernet = supernet_of(config)
    examples = examples_of(pictures, prompts, config.image_size)
    room = 12 * supernet.encoder.stem(torch.zeros(3, 3, *(config.image_size,) * 2)).nbytes
    evaluator = Evaluator(supernet, examples, batch_size, cache_bytes=room)
    for subnet in subnets_of(config):
        found = evaluator.evaluate(subnet)
        assert found.whole
        assert found.metrics == examples.evaluate(supernet, subnet, batch_size)
    assert evaluator.cache.layers_saved > 0
    asked = {"batch_size": batch_size or examples.batch_size}
    alone = list(object_results(supernet, subnet, examples.examples, [prompts], **asked))
    assert found.ious.ious.dtype == np.float32
    assert found.ious.ious.tolist() == np.float32([r.iou for r in alone]).tolist()
    assert found.ious.objects.tolist() == [2, 36, 3, 1, 2, 4, 2, 1, 2, 3]


def test_rungs_go_over_every_picture_once_and_change_nothing(supernet, pictures):
    examples = examples_of(pictures)
    subnet = subnets_of(CONFIG)[0]
    plain = examples.evaluate(supernet, subnet, 2)
    for rungs, pictures_after in [
        ((0.25, 0.5, 1.0), [4, 6]),
        ((1.0,), []),
        (tuple((i + 1) / 10 for i in range(10)), [2, 4, 6, 8]),
    ]:
        encoded, so_far = [], []
        evaluator = Evaluator(supernet, examples, 2)
        encode = evaluator.cache.encode

        def watched(batch, *arguments, encode=encode, encoded=encoded):
            encoded.append(batch)
            return encode(batch, *arguments)

        evaluator.cache.encode = watched

        def go_on(known, so_far=so_far):
            so_far.append(known)
            return True

        found = evaluator.evaluate(subnet, go_on, rungs)
        assert encoded == [0, 1, 2, 3, 4]
        assert found.metrics == plain
        assert [known.pictures for known in so_far] == pictures_after
        for known, miou in zip(so_far, found.rung_mious[:-1], strict=True):
            seen = len(known.ious)
            assert known.ious.tolist() == found.ious.ious[:seen].tolist()
            assert known.objects.tolist() == found.ious.objects[: known.pictures].tolist()
            assert miou == pytest.approx(known.ious.mean(), abs=1e-6)
        assert found.rung_mious[-1] == plain.miou


def test_an_evaluation_that_is_stopped_says_how_far_it_came(supernet, pictures):
    subnet = subnets_of(CONFIG)[0]
    first = examples_of(pictures, limit=4)
    evaluator = Evaluator(supernet, examples_of(pictures), 2)
    asked = []

    def stop(known):
        asked.append(known.pictures)
        return False

    found = evaluator.evaluate(subnet, stop)
    assert not found.whole
    assert asked == [4]
    assert found.ious.pictures == 4
    assert found.metrics == first.evaluate(supernet, subnet, 2)
    assert found.rung_mious == (found.metrics.miou,)
    # What was left out is evaluated when the same subnet comes again.
    whole = examples_of(pictures).evaluate(supernet, subnet, 2)
    assert evaluator.evaluate(subnet).metrics == whole


def test_what_is_the_same_for_all_subnets_is_made_once(supernet, pictures, monkeypatch):
    decoded, encoded, positions = [], [], []
    decode = object_results_file.decode_rle
    monkeypatch.setattr(
        object_results_file, "decode_rle", lambda *a: decoded.append(1) or decode(*a)
    )
    prompt_encoder = supernet.sam.prompt_encoder
    prompt_encoder.register_forward_hook(lambda *_: encoded.append(1))
    made = prompt_encoder.get_dense_pe
    monkeypatch.setattr(prompt_encoder, "get_dense_pe", lambda: positions.append(1) or made())
    evaluator = Evaluator(supernet, examples_of(pictures))
    for subnet in subnets_of(CONFIG):
        evaluator.evaluate(subnet)
    # One picture has more objects than are decoded at once.
    assert (len(decoded), len(encoded), len(positions)) == (11, 11, 1)


def test_true_masks_are_held_as_far_as_there_is_room(supernet, pictures, monkeypatch):
    examples, subnets = examples_of(pictures), subnets_of(CONFIG, 4)
    held = [told(Evaluator(supernet, examples).evaluate(subnet)) for subnet in subnets]
    decode, decoded = object_results_file.decode_rle, []
    monkeypatch.setattr(
        object_results_file, "decode_rle", lambda *a: decoded.append(1) or decode(*a)
    )
    # The first picture's two masks, and the four of 64 × 64 pixels that come second in the next.
    monkeypatch.setattr(evaluator_file, "TRUTH_BYTES", 2 * 675 + 4 * 512)
    evaluator = Evaluator(supernet, examples)
    assert [told(evaluator.evaluate(subnet)) for subnet in subnets] == held
    kept = sum(
        q.truth.nbytes
        for some in evaluator._questions.values()
        for q in some
        if q.truth is not None
    )
    assert 0 < kept <= 2 * 675 + 4 * 512
    assert 11 < len(decoded) < 4 * 11


def test_other_weights_need_another_evaluator(supernet, pictures):
    examples, subnet = examples_of(pictures, limit=2), subnets_of(CONFIG)[0]
    evaluator = Evaluator(supernet, examples)
    before = evaluator.evaluate(subnet).metrics
    state = {name: tensor.clone() for name, tensor in supernet.sam.state_dict().items()}
    for p in supernet.parameters():
        p.grad = torch.ones_like(p)
    optimiser = torch.optim.SGD(supernet.sam.image_encoder.parameters(), lr=0.1)
    for change in (lambda: supernet.sam.load_state_dict(state), optimiser.step):
        change()
        with pytest.raises(RuntimeError, match="make a new evaluator"):
            evaluator.evaluate(subnet)
        with pytest.raises(RuntimeError, match="make a new evaluator"):
            evaluator.embeddings(subnet)
        evaluator = Evaluator(supernet, examples)
        assert evaluator.evaluate(subnet).metrics == examples.evaluate(supernet, subnet)
    assert evaluator.evaluate(subnet).metrics != before


def test_a_supernet_in_training_is_refused(supernet, pictures):
    with pytest.raises(ValueError, match="evaluation mode"):
        Evaluator(supernet.train(), examples_of(pictures, limit=1))


def test_embeddings_and_what_the_decoder_makes_of_them(supernet, pictures):
    examples = examples_of(pictures)
    evaluator = Evaluator(supernet, examples, 3)
    for subnet in subnets_of(CONFIG, 4):
        embeddings = evaluator.embeddings(subnet)
        assert [len(some) for some in embeddings] == [3, 3, 3, 1]
        alone = examples.embeddings(supernet, subnet, 3)
        assert torch.equal(torch.cat(embeddings), torch.stack(list(alone)))
        assert evaluator.metrics(embeddings) == examples.evaluate(supernet, subnet, 3)


def test_masks_at_full_size_are_segment_anythings(supernet, pictures):
    rng = torch.Generator().manual_seed(0)
    sizes = set()
    for example in examples_of(pictures).examples:
        logits = torch.randn(2, 3, 16, 16, generator=rng)
        shape = tuple(example.pixels.shape[1:])
        theirs = supernet.sam.postprocess_masks(logits, shape, example.size)
        assert torch.equal(at_full_size(supernet.sam, logits, example), theirs)
        sizes.add(shape == example.size)
    assert sizes == {True, False}
    same = torch.randn(1, 3, 200, 200, generator=rng)
    assert torch.equal(F.interpolate(same, (200, 200), mode="bilinear"), same)
