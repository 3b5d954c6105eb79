"""segment_anything's generator of masks, on a loaded subnet and a real picture."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from automl.sam.config import PACKAGED_DATA, StudyConfig
from search_spaces import Subnet
from trainables.data.pictures import Pictures
from trainables.data.table import decode_masks
from trainables.sam.models import load_sam
from trainables.sam.parents import parent_encoder
from trainables.sam.segment_anything_import import SamAutomaticMaskGenerator
from trainables.sam.standalone import extract, load_subnet, save_subnet

KEPT = tuple(layer for layer in range(12) if layer != 6)


def iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def test_the_generator_finds_nuclei_with_a_loaded_subnet(tmp_path: Path) -> None:
    sam, config = load_sam("vit_t", StudyConfig().checkpoint_path), parent_encoder("vit_t")
    subnet = Subnet(KEPT, (704,) * len(KEPT))
    save_subnet(extract(sam, config, subnet), config, subnet, tmp_path)
    picture = Pictures(PACKAGED_DATA["nuclei"] / "test.parquet")[1]
    generator = SamAutomaticMaskGenerator(
        load_subnet(tmp_path), points_per_side=8, pred_iou_thresh=0.6, stability_score_thresh=0.8
    )
    found = generator.generate(picture.pixels)
    nuclei = decode_masks(picture.objects, *picture.pixels.shape[:2]).astype(bool)
    best = [max(iou(row["segmentation"], nucleus) for nucleus in nuclei) for row in found]
    assert len(found) >= 3
    assert min(best) > 0.5
