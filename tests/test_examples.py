"""The examples that are whole programs, run as a user runs them; none may log an error.

The quick start in Python runs in test_study.py, on the study that is there.

Alone: `make test ARGS=tests/test_examples.py`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from automl.ledger import read_rows

PROJECT = Path(__file__).parent.parent
EXAMPLES = PROJECT / "examples"
PROGRAMS = ("quick_start", "latency_budget", "own_data", "own_searcher", "own_objective")
SMALL = [
    "evaluation.val_pictures=4",
    "evaluation.test_pictures=4",
    "evaluation.max_objects=3",
    "prioritise.score_pictures=1",
    "prioritise.worth_pictures=1",
    "training.batch_size=2",
    "training.max_objects=2",
    "designs.trials=1",
    "designs.steps=1",
    "final.steps=2",
    "final.evaluations=4",
    "resources.train_cpus=1",  # two threads of each of two studies would wait for each other
    "resources.evaluator_cpus=1",
]
LOGGED = re.compile(r"\b(ERROR|CRITICAL|Traceback)\b")


def run(name: str, output: Path, *arguments: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--output", output, *arguments, *SMALL],
        cwd=output.parent,
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, done.stderr
    logged = [line for line in (done.stdout + done.stderr).splitlines() if LOGGED.search(line)]
    assert not logged
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60


@pytest.mark.slow
def test_a_latency_budget_is_kept(tmp_path: Path) -> None:
    out = run("latency_budget", tmp_path / "out", "--budget", "70%", "--threads", "1")
    kept = re.findall(r"^[0-9a-f]{12}: (\d+\.\d) ms, mIoU 0\.\d{3}$", out, re.MULTILINE)
    assert kept
    table = (tmp_path / "out" / "table" / "latency.json").read_text()
    parent = float(re.findall(r'"parent_ms": ([\d.]+)', table)[0])
    assert max(map(float, kept)) <= 0.7 * parent + 0.05


@pytest.mark.slow
def test_ones_own_pictures_and_objective_are_all_it_takes(tmp_path: Path) -> None:
    objective = f"search.objective={EXAMPLES / 'own_objective.py'}:thin_objects"
    out = run("own_data", tmp_path / "out", "--pictures", "24", objective)
    assert re.search(r"^[0-9a-f]{12}: [\d,]+ MACs, mIoU 0\.\d{3}$", out, re.MULTILINE)
    assert len(list((tmp_path / "out" / "pictures" / "labels").iterdir())) == 24
    (front,) = (tmp_path / "out").glob("**/front.parquet")
    for row in read_rows(front):
        assert [name for name, _ in row["metrics_test"]] == ["thin_iou", "thin_objects"]
    (page,) = (tmp_path / "out").glob("**/report.html")
    assert "<th>thin_iou val</th>" in page.read_text()
