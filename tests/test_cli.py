"""What the command line says to mistakes, and what it prints for machines."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tiny import tiny_sam

from automl.cli import main
from automl.config import PACKAGED_DATA
from trainables.sam.models import save_state_dict

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
    ["run", "prepare", "profile", "prioritise", "train", "search", "evaluate", "export", "report"],
)
def test_every_command_explains_itself_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: supersam {command}" in shown
    for option in ("--config", "--output", "--json", "KEY=VALUE"):
        assert option in shown


def test_figures_of_a_model_go_to_standard_output_as_one_json_object(call: Call) -> None:
    few = ["evaluation.max_objects=1", "prepare.min_area=16"]
    status, out, err = call("evaluate", "--json", "--split", "val", "--prompts", "box", *few)
    assert status == 0, err
    row = json.loads(out)
    assert row["subnet"] == "parent"
    assert row["pictures"] == row["objects"] == 32
    assert row["miou"] > row["box_miou"], "the parent must beat its prompt"
    status, _, err = call("evaluate", "--subnet", "0123456789ab", *few)
    assert status == 2
    assert "0123456789ab" in err


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
