"""The search over plans of convolutions, end to end on Ray, on tiny shapes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
import torch
from mlflow import MlflowClient
from test_report import Page, charts_of
from torch.nn import functional as F

from automl.charts import as_svg
from automl.cli import main
from automl.cluster import connect
from automl.convolution.config import check_config
from automl.convolution.rows import is_pytorch, plan_hypervolume
from automl.convolution.search import search_plans
from automl.convolution.site import find_site
from automl.convolution.workspace import ConvolutionWorkspace
from automl.ledger import Row, read_rows
from automl.output import claim_output
from search_spaces import InputError
from search_spaces.conv_plan import PYTORCH
from trainables.convolution.functional import conv2d
from trainables.convolution.tuned import TunedTable

VALUES: dict[str, Any] = {
    "family": "convolution",
    "layers": [],
    "shapes": {
        "small": {"channels": 4, "size": 12, "filters": 6, "kernel": 3},
        "wide": {"channels": 3, "size": [9, 16], "filters": 4, "kernel": [1, 5], "padding": [0, 2]},
    },
    "batch": 2,
    "choices": {"threads": [1], "block_kib": [2048, 1]},
    "search": {"evaluations": 4},
    "measure": {"repeats": 2, "front_repeats": 3},
    "resources": {"evaluator_cpus": 1, "train_cpus": 1},
}


@pytest.fixture(scope="module", autouse=True)
def on_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        connect(check_config(VALUES, "here").resources)
        yield
        ray.shutdown()


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(json.dumps({**VALUES, **changes}))
    return path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Row]]:
    """A study whose first search was cut off after two plans."""
    folder = tmp_path_factory.mktemp("conv")
    path, output = write_config(folder), folder / "out"
    workspace = ConvolutionWorkspace(check_config(VALUES, "here"), output)
    claim_output(workspace)
    (site,) = find_site(workspace.config)
    seen: list[Row] = []

    def cut(rows: list[Row]) -> None:
        seen[:] = rows
        if len(rows) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_plans(workspace, "small", site, cut)
    assert len(seen) == 2
    return path, output, read_rows(workspace.ledger_part("small"))


@pytest.fixture(scope="module")
def finished(begun: tuple[Path, Path, list[Row]]) -> Path:
    path, output, _ = begun
    assert main(["run", "--config", str(path), "--output", str(output)]) == 0
    return output


def test_a_search_that_was_cut_off_goes_on_and_measures_nothing_twice(
    begun: tuple[Path, Path, list[Row]], finished: Path
) -> None:
    _, _, before = begun
    rows = read_rows(finished / "evaluations.parquet")
    small = [row for row in rows if row["layer"] == "small"]
    assert small[: len(before)] == before
    assert len(before) == 2
    for layer, count in (("small", 5), ("wide", 5)):
        own = [row for row in rows if row["layer"] == layer]
        assert len({row["plan"] for row in own}) == len(own) == count
        assert is_pytorch(own[0]), "what plans are compared with comes first"
        assert own[1]["settings"]["block_kib"] == 2048, "then the plan that nobody tuned"
        assert {row["settings"]["method"] for row in own[1:]} == {"slices"}
        for row in own:
            assert row["failure"] is None
            assert row["latency_ms"] > 0
            assert row["error"] <= 1e-4
            assert row["peak_bytes"] >= 4 * 2 * row["shape"]["filters"]
    assert {row["settings"]["slices"] for row in rows if row["layer"] == "wide"} == {
        "columns",
        "rows",  # PyTorch's own has that default
    }


def test_the_front_is_measured_beside_what_it_is_compared_with(finished: Path) -> None:
    front = read_rows(finished / "front.parquet")
    for layer in ("small", "wide"):
        own = [row for row in front if row["layer"] == layer]
        (pytorch,) = (row for row in own if is_pytorch(row))
        assert pytorch["speed"] == pytorch["memory_share"] == 1
        assert any(row["is_default"] for row in own)
        assert plan_hypervolume(own) >= 1
        best = [row for row in own if row["on_front"]]
        for row in own:
            beaten = [
                other
                for other in own
                if other["latency_ms"] <= row["latency_ms"]
                and other["peak_bytes"] <= row["peak_bytes"]
                and other != row
            ]
            assert row in best or beaten


def test_conv2d_takes_the_table_that_was_tuned(finished: Path) -> None:
    table = TunedTable.load(finished / "tuned.json")
    assert [layer.name for layer in table.layers] == ["small", "wide"]
    rng = torch.Generator().manual_seed(1)
    pictures = torch.randn(2, 4, 12, 12, generator=rng)
    weight = torch.randn(6, 4, 3, 3, generator=rng)
    shape, cpu = check_config(VALUES, "here").shape("small"), torch.device("cpu")
    plans = [p.plan for p in table.layers[0].plans]
    fastest = table.plan_for(shape, cpu, torch.float32)
    assert fastest == plans[0]
    assert table.preferring("memory").plan_for(shape, cpu, torch.float32) == plans[-1]
    found = conv2d(pictures, weight, plan=table)
    torch.testing.assert_close(found, F.conv2d(pictures, weight), rtol=0, atol=1e-4)


def test_the_study_is_shown_on_a_page_and_logged(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.sources == []
    charts = charts_of(text)
    assert {*charts} <= page.ids
    for chart in charts.values():
        assert as_svg(chart).count("<path") > 5
    assert re.findall(r"<h2>(\w+)", text) == ["small", "wide", "How", "Compare"]
    assert "PyTorch&#39;s own" in text
    client = MlflowClient(f"sqlite:///{finished.parent / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'supersam'")
    runs = client.search_runs([experiment.experiment_id])
    assert all(run.info.status == "FINISHED" for run in runs)
    assert sorted(run.data.tags["nas.kind"] for run in runs) == ["layer", "layer", "study"]
    (study,) = (run for run in runs if run.data.tags["nas.kind"] == "study")
    assert study.data.metrics["mean_hypervolume"] >= 1
    assert {file.path for file in client.list_artifacts(study.info.run_id)} == {
        "front.json",
        "tuned.json",
    }
    for run in runs:
        if run is not study:
            assert run.data.tags["mlflow.parentRunId"] == study.info.run_id
            history = client.get_metric_history(run.info.run_id, "hypervolume")
            assert sorted(point.step for point in history) == [1, 2, 3, 4, 5]
            assert run.data.metrics["pytorch_latency_ms"] > 0


def test_run_again_it_does_nothing_and_says_what_it_found(
    finished: Path, begun: tuple[Path, Path, list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    files = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    arguments = ["--config", str(begun[0]), "--output", str(finished)]
    assert main(["run", *arguments, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["output"] == str(finished)
    assert value["front"] == pq.read_table(finished / "front.parquet").to_pylist()
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == files
    assert not (finished / "work").exists()
    page = (finished / "report.html").read_text()
    assert main(["report", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "PyTorch's own" in shown
    assert "100%" in shown
    assert (finished / "report.html").read_text() == page


def test_plans_that_compute_something_else_are_recorded_as_failures(tmp_path: Path) -> None:
    values = {**VALUES, "measure": {"repeats": 1, "tolerance": 1e-12, "cpu_time": True}}
    workspace = ConvolutionWorkspace(check_config(values, "here"), tmp_path / "out")
    claim_output(workspace)
    (site,) = find_site(workspace.config)
    rows = search_plans(workspace, "small", site, lambda rows: None)
    assert [bool(row["failure"]) for row in rows] == [False, True, True, True, True]
    for row in rows[1:]:
        assert re.match(r"its result differs from PyTorch's by \d\.\de-\d\d of", row["failure"])
        assert row["latency_ms"] is None
    assert PYTORCH.key == rows[0]["plan"]
    assert plan_hypervolume(rows) == 1


def test_tiles_are_searched_where_triton_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton is not installed (the extra `triton`)")
    values = {**VALUES, "method": "triton", "layers": ["conv9"], "shapes": {}}
    config = check_config(values, "here")
    with pytest.raises(InputError, match=r"method: triton can't be searched here: .*needs a GPU"):
        list(find_site(config))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    (site,) = find_site(config)
    assert (site.method, site.shared_memory) == ("triton", None)
    workspace = ConvolutionWorkspace(config, tmp_path)
    space = workspace.space("conv9", site)
    pytorch, first = workspace.baselines("conv9", site)
    assert pytorch == PYTORCH
    assert space.contains(first)
    assert {plan.method for plan in space.plans} == {"triton"}
    (site,) = find_site(check_config({**values, "method": None}, "here"))
    assert site.method == "slices", "on a CPU, whatever interprets the kernel"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("layers=[conv99]", "layers: 'conv99' is unknown; choose from conv1, conv2, "),
        ("layers=[conv9,conv9]", "layers, shapes: 'conv9' is there twice"),
        ("shapes.small.kernel=99", "small: convolution: a window of 99×99 does not fit"),
        ("shapes.small.kernel=1", "small: plans: none of those on offer suits"),
        ("shapes.small.depth=1", "unknown key shapes.small.depth; known here: channels, size, "),
        ("choices.threads=[8]", "choices.threads: 8, and resources.evaluator_cpus reserves 1"),
        ("choices.layout=[chwn]", "choices.layout.0: Input should be 'nchw' or 'nhwc'"),
        ("measure.tolerance=0", "measure.tolerance: Input should be greater than 0"),
        ("search.searcher=nobody", "search.searcher: 'nobody' is unknown"),
        ("family=kernels", "family: 'kernels' is unknown; choose from sam, convolution"),
        ("method=triton", "method: triton can't be searched here: "),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    override: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = write_config(tmp_path), tmp_path / "out"
    assert main(["run", "--config", str(path), "--output", str(output), override]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert said in shown[-1]
    assert shown[-1].startswith("supersam: ")
    assert not (output / "config.yaml").exists()


def test_cpu_time_is_that_of_one_thread() -> None:
    values = {**VALUES, "measure": {"cpu_time": True}, "resources": {"evaluator_cpus": 2}}
    assert check_config(values, "here").measure.cpu_time
    values |= {"choices": {"threads": [1, 2]}}
    with pytest.raises(InputError, match=r"cpu_time: give choices\.threads=\[1\]; it is 2 here"):
        check_config(values, "here")


def test_commands_of_sam_refuse_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path)
    assert main(["prioritise", "--config", str(path), "--output", str(tmp_path / "out")]) == 2
    assert "of the family 'convolution', and this is for sam" in capsys.readouterr().err
