"""What the command line says to mistakes, and what it prints for machines."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tiny import CONFIG, tiny_sam

from automl.asked import QUICK_START
from automl.cli import main
from automl.commands import PROJECT
from automl.output import claim_output
from automl.sam.config import PACKAGED_DATA, load_config
from automl.sam.workspace import Workspace
from search_spaces import SubnetSpace
from trainables.sam.models import save_state_dict
from trainables.sam.segment_anything_import import Sam
from trainables.sam.standalone import extract, save_subnet

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        status = main([command, "--output", str(tmp_path / "out"), *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def refused(call: Call, tmp_path: Path, *arguments: str) -> str:
    """The one line of a mistake that left nothing behind."""
    status, out, err = call("run", *arguments)
    assert status == 2
    assert out == ""
    assert not (tmp_path / "out").exists()
    (line,) = err.strip().splitlines()
    assert line.startswith("supersam: ")
    return line


def test_an_unknown_key_is_named_with_the_known_ones(call: Call, tmp_path: Path) -> None:
    line = refused(call, tmp_path, "training.epochs=3")
    assert "training.epochs" in line
    assert "learning_rate" in line


def test_an_unknown_option_is_one_line(call: Call, tmp_path: Path) -> None:
    assert "--outptu" in refused(call, tmp_path, "--outptu", "x")


def test_a_missing_configuration_is_named(call: Call, tmp_path: Path) -> None:
    assert "nowhere.yaml does not exist" in refused(call, tmp_path, "--config", "nowhere.yaml")


def test_a_missing_checkpoint_is_named(call: Call, tmp_path: Path) -> None:
    line = refused(call, tmp_path, f"checkpoint={tmp_path / 'none.pth'}")
    assert f"{tmp_path / 'none.pth'} does not exist" in line
    assert "vit_b needs one" in refused(call, tmp_path, "model=vit_b", "image_size=1024")


def test_a_checkpoint_of_another_shape_is_refused_with_both_shapes(
    call: Call, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.safetensors"
    save_state_dict(tiny_sam().state_dict(), path, torch.float32)
    assert f"{path} is no vit_t" in refused(call, tmp_path, f"checkpoint={path}")
    state = tiny_sam().state_dict()
    torch.save({"weights": state}, tmp_path / "nested.pth")
    line = refused(call, tmp_path, f"checkpoint={tmp_path / 'nested.pth'}")
    assert "no table of tensors" in line


def test_a_data_set_that_is_missing_or_empty_is_named(call: Call, tmp_path: Path) -> None:
    assert f"data: {tmp_path / 'none'} is neither" in refused(
        call, tmp_path, f"data={tmp_path / 'none'}"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    for split in ("train", "val", "test"):
        table = pq.read_table(PACKAGED_DATA["nuclei"] / f"{split}.parquet")
        pq.write_table(table.slice(0, 0), empty / f"{split}.parquet")
    assert f"{empty / 'train.parquet'} holds no picture" in refused(call, tmp_path, f"data={empty}")


def test_a_folder_without_pictures_is_named_and_leaves_the_output_free(
    call: Call, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "labels").mkdir()
    status, _, err = call("prepare", f"data={tmp_path / 'mine'}")
    assert status == 2
    assert "leaves no picture for the train split" in err
    status, out, _ = call("prepare", "--json", "seed=5")
    assert status == 0
    assert json.loads(out)["splits"]["val"]["pictures"] == 32


def test_a_directory_with_other_files_is_left_alone(call: Call, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    status, _, err = call("run")
    assert status == 2
    assert "holds other files" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_constraints_are_checked_before_anything_is_written(call: Call, tmp_path: Path) -> None:
    assert "constraints.weight" in refused(call, tmp_path, "constraints.weight=50%")
    assert "constraints.params" in refused(call, tmp_path, "constraints.params=-1")


@pytest.mark.parametrize(
    "command",
    [
        *("run", "prepare", "profile", "latency", "prioritise", "train", "search", "evaluate"),
        *("export", "report"),
    ],
)
def test_every_command_explains_itself_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: supersam {command}" in shown
    for option in ("--config", "--output", "--json", "KEY=VALUE"):
        assert option in shown


def test_figures_of_a_model_go_to_standard_output_as_one_json_object(
    call: Call, tmp_path: Path
) -> None:
    status, out, err = call("evaluate", "--json", "--max-objects", "1")
    assert status == 0, err
    value = json.loads(out)
    box, point = value["rows"]
    assert (value["model"], value["split"], value["pictures"]) == ("parent", "val", 32)
    assert (box["prompts"], point["prompts"]) == ("box", "point")
    assert box["objects"] == point["objects"] == 32
    assert box["miou"] > box["box_miou"], "the parent must beat its prompt"
    assert box["objects"] == sum(box[f"objects_{s}"] for s in ("small", "medium", "large"))
    assert 0 < box["ap75"] < box["ap50"] <= 1
    assert point["ap"] is None
    assert not (tmp_path / "out").exists(), "a prepared data set is read where it is"


def test_a_standalone_model_is_measured_on_all_splits_as_a_table(
    call: Call, tmp_path: Path, sam: Sam, space: SubnetSpace, splits: Path
) -> None:
    folder = tmp_path / "alone"
    save_subnet(extract(sam, CONFIG, space.smallest), CONFIG, space.smallest, folder)
    asked = ["--model", str(folder), "--split", "all", "--prompts", "mixed", f"data={splits}"]
    status, out, err = call("evaluate", *asked)
    assert status == 0, err
    assert f"{folder} on all: 14 pictures at 64 px" in " ".join(out.split())
    assert max(len(line) for line in out.splitlines()) <= 120
    status, out, _ = call("evaluate", *asked, "--json", "--pictures", "3", "--min-area", "1")
    value = json.loads(out)
    assert (value["pictures"], value["min_area"]) == (3, 1)
    assert [row["prompts"] for row in value["rows"]] == ["mixed"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["--subnet", "0123456789ab"],
            ["--subnet: 0123456789ab", "subnets", "evaluations.parquet"],
        ),
        (["--model", "nowhere"], ["nowhere/subnet.json does not exist"]),
        (["--model", "x", "--subnet", "y"], ["--model: give it or --subnet"]),
        (["--split", "dev"], ["--split: 'dev' is unknown; choose from train, val, test, all"]),
        (["--prompts", "text"], ["--prompts: 'text' is unknown; choose from box, point, centre"]),
        (["--pictures", "0"], ["--pictures", "greater than or equal to 1"]),
        (["--min-area", "1000000"], ["evaluation.min_area", "1000000 pixels"]),
        (["data=nowhere"], ["data:", "nowhere is neither"]),
        (["model=vit_b", "image_size=1024"], ["checkpoint: vit_b needs one"]),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    call: Call, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    status, out, err = call("evaluate", *arguments)
    assert (status, out) == (2, "")
    (line,) = err.strip().splitlines()
    for part in parts:
        assert part in line
    assert not (tmp_path / "out").exists()


def test_looking_leaves_a_default_directory_of_another_study_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = tmp_path / "runs" / "quickstart"
    claim_output(Workspace(load_config(PROJECT / QUICK_START, ["seed=9"]), theirs))
    asked = ["evaluate", "--json", "--pictures", "1", "--prompts", "box"]
    assert main(asked) == 0
    capsys.readouterr()
    assert main([*asked, "--output", str(theirs)]) == 2
    assert "another configuration (seed is 9 there" in capsys.readouterr().err
    assert main(["evaluate", "--subnet", "0123456789ab"]) == 2
    assert "another configuration" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["quickstart"]


def test_results_that_are_not_there_yet_are_asked_for_in_one_line(call: Call) -> None:
    for command, arguments in (("report", []), ("export", ["--subnet", "0123456789ab"])):
        status, _, err = call(command, *arguments)
        assert status == 2
        assert "yet" in err


def test_the_job_is_the_command_run() -> None:
    done = subprocess.run(
        [sys.executable, "run.py", "--help"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Run a whole study" in done.stdout
