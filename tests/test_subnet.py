import numpy as np
import pytest
from tiny import SPACE

from search_spaces import Subnet
from trainables.costs import cost_table
from trainables.data.pictures import Pictures
from trainables.early_stopping import Rival, StoppingRule
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.evaluator import Evaluator
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
    assert row["miou_expected"] == row["miou_val"] == row["rung_mious"][-1]
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
    assert row["miou_expected"] == pytest.approx(whole["miou_val"], abs=1e-6)
    assert row["rung_mious"] == whole["rung_mious"][: len(row["rung_mious"])]
    assert (row["object_ious"], row["latency_ms"]) == (None, None)
    assert score_in_rungs(evaluator, SPACE.largest, "val", [dearer], RULE, RUNGS)["object_ious"]
