"""The command that makes a latency table."""

import functools
import json
import statistics
from pathlib import Path

import pytest
import torch

import automl.sam.latency
from automl.asked import QUICK_START
from automl.cli import main
from automl.commands import PROJECT
from automl.output import claim_output
from automl.sam.config import load_config
from automl.sam.workspace import Workspace
from search_spaces import Subnet
from trainables.latency_table import LatencyTable


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with fewer rounds."""
    for name in ("measure_table", "check_table"):
        short = functools.partial(getattr(automl.sam.latency, name), rounds=2)
        monkeypatch.setattr(automl.sam.latency, name, short)


@pytest.mark.usefixtures("brief")
def test_the_command_measures_without_data_and_leaves_the_default_directory_free(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    asked = ["data=nowhere", "image_size=64", "designs.space.smallest_heads=[0.5]"]
    assert main(["latency", "--json", "--threads", str(threads + 1), *asked]) == 0
    value = json.loads(capsys.readouterr().out)
    (folder,) = (tmp_path / "runs").iterdir()
    config = load_config(PROJECT / QUICK_START, asked)
    assert folder.name == f"quickstart-{config.key}"
    assert str(folder) == value["output"]
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "latency.json"}
    written = json.loads((folder / "latency.json").read_text())
    assert {"output": value["output"], **written} == value
    table = LatencyTable.load(folder / "latency.json", "vit_t", 64)
    assert (table.threads, torch.get_num_threads()) == (threads + 1, threads)
    assert table.parent == Subnet(tuple(range(12)), (704,) * 12)
    assert value["parent_ms"] == table.predict(table.parent)
    assert [kind.layers for kind in table.kinds] == [(0, 1, 3, 4, 6, 7, 9, 10), (2, 5, 8, 11)]
    assert {(kind.widths, kind.heads) for kind in table.kinds} == {
        ((176, 352, 528, 704), (2, 3, 4))
    }
    workspace = Workspace(config, folder)
    space = config.designs.space
    first = workspace.draw_up(space.design(space.first_points()[0]), [0.0] * 12)
    least, most = table.bounds(first)
    assert value["first_design"] == {"subnets": first.size, "least_ms": least, "most_ms": most}
    check = value["check"]
    assert check["subnets"] == len(check["predicted"]) == len(check["measured"]) == 20
    errors = [abs(p / m - 1) for p, m in zip(check["predicted"], check["measured"], strict=True)]
    assert check["mean_error"] == pytest.approx(statistics.mean(errors))
    assert check["worst_error"] == max(errors)
    assert -1 <= check["rank_correlation"] <= 1
    # A study of another configuration may still have the default directory, and is left alone.
    theirs = tmp_path / "runs" / "quickstart"
    claim_output(Workspace(load_config(PROJECT / QUICK_START, ["seed=9"]), theirs))
    (folder / "latency.json").unlink()
    assert main(["latency", "--json", *asked]) == 0
    assert (folder / "latency.json").exists()
    assert [path.name for path in theirs.iterdir()] == ["config.yaml"]


@pytest.mark.usefixtures("brief")
def test_in_a_study_the_table_goes_to_its_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["image_size=64", "designs.space.width_count=[1]", "designs.space.removable=[1]"]
    default = tmp_path / "runs" / "quickstart"
    claim_output(Workspace(load_config(PROJECT / QUICK_START, asked), default))
    assert main(["latency", *asked]) == 0
    shown = capsys.readouterr().out
    table = LatencyTable.load(default / "latency.json", "vit_t", 64)
    assert {kind.widths for kind in table.kinds} == {(704,)}
    for word in ("vit_t at 64 px", "windowed", "global", "4 × 4 × 176", "704", "The parent:"):
        assert word in shown
    assert f"{table.kinds[1].ms[0][0]:.2f}" in shown
    assert "subnets, predicted beside measured: mean error" in shown
    assert max(len(line) for line in shown.splitlines()) <= 120
    assert main(["latency", *asked, "--output", "named"]) == 0
    assert (tmp_path / "named" / "latency.json").is_file()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["quickstart"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--threads", "0"], "--threads"),
        (["model=vit_x"], "model: 'vit_x' is unknown"),
        (["constraints.params=-1"], "constraints.params"),
        (["constraints.encoder_params=1"], "can't be reached"),
        (["checkpoint=nowhere.pth"], "nowhere.pth does not exist"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], part: str
) -> None:
    assert main(["latency", "--output", str(tmp_path / "out"), *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert part in line
    assert captured.out == ""
    assert not (tmp_path / "out").exists()
