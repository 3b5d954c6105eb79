import pytest
from tiny import SPACE

from search_spaces import Subnet
from trainables.costs import cost_table
from trainables.data.pictures import Pictures
from trainables.sam.evaluation import EvaluationSet
from trainables.subnet import score_subnet


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
