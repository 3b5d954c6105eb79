import re

import numpy as np
import pytest
from tiny import SPACE

from search_spaces import InputError, Subnet
from trainables.costs import cost_table
from trainables.data.pictures import Pictures
from trainables.early_stopping import Rival, StoppingRule
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.evaluator import Evaluator
from trainables.sam.objective import quality, quality_name
from trainables.subnet import score_in_rungs, score_subnet


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_score_has_the_measures_and_costs_of_its_subnet_by_name(supernet, splits, split):
    pictures = Pictures(splits / f"{split}.parquet")
    examples = EvaluationSet(pictures, image_size=64, prompts="box", seed=0)
    row = score_subnet(supernet, SPACE.smallest, examples, split, 4)
    metrics = examples.evaluate(supernet, SPACE.smallest, 4)
    assert Subnet.from_dict(row) == SPACE.smallest
    assert row["subnet"] == SPACE.smallest.key
    assert row.items() >= cost_table(supernet.sam).costs(SPACE.smallest).to_dict().items()
    assert (row[f"miou_{split}"], row["miou_oracle"]) == (metrics.miou, metrics.miou_oracle)
    assert (row["split"], row["pictures"]) == (split, len(pictures))
    assert row["objects"] == metrics.objects
    assert {name for name in row if name.startswith("miou_")} == {f"miou_{split}", "miou_oracle"}


RULE = StoppingRule(min_pictures=2)
RUNGS = (0.25, 0.5, 1.0)


@pytest.fixture
def evaluator(supernet, splits):
    pictures = Pictures(splits / "train.parquet")
    examples = EvaluationSet(pictures, image_size=64, prompts="point", seed=0)
    return Evaluator(supernet, examples, 2)


def test_a_score_in_rungs_is_the_same_and_makes_a_rival(supernet, evaluator):
    row = score_in_rungs(evaluator, SPACE.smallest, "val", [], RULE, RUNGS)
    plain = score_subnet(supernet, SPACE.smallest, evaluator.examples, "val", 2)
    changing = ("latency_ms", "seconds")
    assert row.items() >= {k: v for k, v in plain.items() if k not in changing}.items()
    assert row["latency_ms"] > 0
    assert row["expected"] == row["miou_val"] == row["rung_mious"][-1]
    assert len(row["rung_mious"]) == 3
    assert len(row["object_ious"]) == row["objects"]
    assert row["object_ious"] == np.float32(row["object_ious"]).tolist()
    # Compared with itself a subnet has not lost.
    rival = Rival(row["encoder_macs"], np.float32(row["object_ious"]))
    again = score_in_rungs(evaluator, SPACE.smallest, "val", [rival], RULE, RUNGS)
    same = [name for name in row if name not in changing]
    assert {k: again[k] for k in same} == {k: row[k] for k in same}


def test_a_subnet_that_has_lost_is_scored_in_part(evaluator):
    whole = score_in_rungs(evaluator, SPACE.largest, "val", [], RULE, RUNGS)
    macs, ious = whole["encoder_macs"], np.float32(whole["object_ious"])
    cheaper, dearer = Rival(macs - 1, ious + np.float32(0.5)), Rival(macs + 1, ious + 1)
    row = score_in_rungs(evaluator, SPACE.largest, "val", [dearer, cheaper], RULE, RUNGS)
    assert row.keys() == whole.keys()
    assert 2 <= row["pictures"] < whole["pictures"]
    assert row["objects"] < whole["objects"]
    seen = ious[: row["objects"]]
    assert row["miou_val"] == pytest.approx(seen.mean(), abs=1e-6)
    assert row["expected"] == pytest.approx(whole["miou_val"], abs=1e-6)
    assert row["rung_mious"] == whole["rung_mious"][: len(row["rung_mious"])]
    assert (row["object_ious"], row["latency_ms"]) == (None, None)
    assert score_in_rungs(evaluator, SPACE.largest, "val", [dearer], RULE, RUNGS)["object_ious"]


def thin(subnet, results):
    """Of masks, so that they must be there."""
    wide = [r.iou for r in results if r.true_mask().any(0).sum() > r.true_mask().any(1).sum()]
    covered = [(r.chosen_mask() & r.true_mask()).sum() / r.area for r in results]
    return {"wide": sum(wide) / max(1, len(wide)), "covered": float(np.mean(covered))}


def test_an_objective_of_ones_own_is_what_counts_and_stops_nothing(supernet, evaluator):
    examples = evaluator.examples
    masked = Evaluator(supernet, examples, 2, with_masks=True)
    better = [Rival(0, np.ones(10_000, np.float32))]
    row = score_in_rungs(masked, SPACE.smallest, "val", better, RULE, RUNGS, thin)
    results = examples.results(supernet, SPACE.smallest, 2, with_masks=True)
    assert row["metrics_val"] == [*thin(SPACE.smallest, results).items()]
    assert row["expected"] == quality(row, "val") == row["metrics_val"][0][1] != row["miou_val"]
    assert (quality_name(row), row["stopped"]) == ("wide", False)
    plain = score_subnet(supernet, SPACE.smallest, examples, "val", 2, thin)
    assert plain["metrics_val"] == row["metrics_val"]
    assert row["miou_val"] == examples.evaluate(supernet, SPACE.smallest, 2).miou


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0.5, "gave 0.5; give metrics by name"),
        ({}, "gave {}; give metrics by name"),
        ({"iou": "high"}, "metrics are numbers"),
        ({"iou": float("nan")}, "all must be finite"),
    ],
)
def test_an_objective_that_gives_no_metrics_is_told_so(supernet, evaluator, given, said):
    def half(subnet, results):
        return given

    with pytest.raises(InputError, match=re.escape(said)) as caught:
        score_subnet(supernet, SPACE.smallest, evaluator.examples, "val", 2, half)
    assert "search.objective: half" in str(caught.value)
