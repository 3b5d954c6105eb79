import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import synthetic_picture

from trainables.sam.segment_anything_import import (
    SamAutomaticMaskGenerator,
    SamPredictor,
    _batched_nms,
    _resize,
)

ROOT = Path(__file__).parents[1]
USE = """
import sys, torch
torch.set_num_threads(1)
import numpy as np
from PIL import Image
{before}
from trainables.sam.segment_anything_import import ResizeLongestSide, SamPredictor
import segment_anything
assert segment_anything.SamPredictor is SamPredictor
pixels = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
resized = ResizeLongestSide(20).apply_image(pixels)
expected = Image.fromarray(pixels).resize((20, 12), Image.Resampling.BILINEAR)
{after}
"""
FILES = {
    "ops/boxes.py": "batched_nms = box_area = None",
    "transforms/functional.py": (
        "def to_pil_image(p):\n    return p\ndef resize(p, size):\n    return [[size]]\n"
    ),
}


def run(before: str, after: str, extra: Path | None = None) -> str:
    path = os.pathsep.join(str(p) for p in (extra, ROOT) if p)
    done = subprocess.run(
        [sys.executable, "-c", USE.format(before=before, after=after)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fake_torchvision(folder: Path, init: str) -> Path:
    package = folder / "torchvision"
    for name, text in FILES.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).with_name("__init__.py").touch()
        (package / name).write_text(text)
    (package / "__init__.py").write_text(init)
    return folder


AS_PILLOW = """
assert np.array_equal(resized, np.asarray(expected))
print(sorted(name for name in sys.modules if name.startswith("torchvision")))
"""


def test_it_imports_where_torchvision_is_missing():
    assert run("sys.modules['torchvision'] = None", AS_PILLOW) == "[]\n"


def test_it_imports_where_torchvision_does_not_fit_torch(tmp_path):
    broken = fake_torchvision(
        tmp_path, "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    assert run("", AS_PILLOW, broken) == "[]\n"


def test_a_working_torchvision_is_used(tmp_path):
    working = fake_torchvision(tmp_path, "")
    assert run("", "print(resized.tolist())", working) == "[[[12, 20]]]\n"


def test_the_mask_generator_runs_on_a_small_picture(sam):
    pixels, _ = synthetic_picture(np.random.default_rng(0), 60, 80, objects=3)
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=3,
        pred_iou_thresh=-1e9,
        stability_score_thresh=0.0,
        box_nms_thresh=0.9,
    )
    found = generator.generate(pixels)
    assert 0 < len(found) <= 27
    for record in found:
        assert record["segmentation"].shape == (60, 80)
        assert record["area"] == record["segmentation"].sum()


def test_the_predictor_takes_boxes_and_points_on_a_real_picture(sam):
    pixels, _ = synthetic_picture(np.random.default_rng(0), 60, 80, objects=3)
    predictor = SamPredictor(sam)
    predictor.set_image(pixels)
    for asked in (
        {"box": np.array([3, 4, 50, 40])},
        {"point_coords": np.array([[20, 30]]), "point_labels": np.array([1])},
    ):
        masks, ranks, _ = predictor.predict(**asked)
        assert masks.shape == (3, 60, 80)
        assert np.isfinite(ranks).all()


def slow_nms(boxes, scores, groups, threshold):
    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        shared = max(0, width) * max(0, height)
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return shared / (sum(areas) - shared)

    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = (k for k in kept if groups[k] == groups[i])
        if all(iou(boxes[i], boxes[k]) <= threshold for k in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_stand_in_for_suppression_equals_the_greedy_rule(threshold, groups):
    rng = torch.Generator().manual_seed(0)
    corners = torch.rand(90, 2, generator=rng) * 5
    boxes = torch.cat([corners, corners + 1 + torch.rand(90, 2, generator=rng) * 3], dim=1)
    scores = torch.rand(90, generator=rng)
    group = torch.randint(groups, (90,), generator=rng)
    expected = slow_nms(boxes.tolist(), scores.tolist(), group.tolist(), threshold)
    assert 1 < len(expected) < 90
    assert _batched_nms(boxes, scores, group, threshold).tolist() == expected


def test_nothing_to_suppress_gives_no_indices():
    empty = _batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5)
    assert empty.tolist() == []
    assert empty.dtype == torch.int64


def test_the_stand_in_for_resizing_takes_height_first():
    assert _resize(Image.new("RGB", (50, 30)), (12, 20)).size == (20, 12)
