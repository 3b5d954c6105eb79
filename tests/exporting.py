"""A study with a front of two subnets, to export them: made without a search."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from automl.asked import QUICK_START
from automl.cli import main
from automl.commands import PROJECT
from automl.files import write_json
from automl.ledger import write_rows
from automl.output import claim_output
from automl.sam.config import PACKAGED_DATA, load_config
from automl.sam.measure import write_standalone
from automl.sam.stages import FRONT
from automl.sam.workspace import Workspace
from search_spaces import Subnet

SMALL = Subnet((4, 8), (704, 704))
LARGE = Subnet(tuple(range(11)), (704,) * 11)

Call = Callable[..., tuple[int, str, str]]


def write_study(root: Path) -> None:
    """Its configuration is not the quick start's: three pictures, asked about with boxes."""
    config = load_config(PROJECT / QUICK_START, ["evaluation.val_pictures=3", "prompts=box"])
    workspace = Workspace(config, root)
    claim_output(workspace)
    shutil.copytree(PACKAGED_DATA["nuclei"], root / "data")
    parent = workspace.parent()
    rows = []
    for subnet, miou in ((SMALL, 0.6), (LARGE, 0.7)):
        write_standalone(workspace, parent, subnet)
        costs = {**workspace.costs(subnet), "latency_ms": 10.0 * subnet.depth}
        rows.append({"subnet": subnet.key, **subnet.to_dict(), **costs, "miou_val": miou})
    write_rows(rows, root / "front.parquet", FRONT)
    write_json({**workspace.parent_costs, "latency_ms": 120.0}, root / "parent.json")


def made_study(folders: pytest.TempPathFactory) -> Path:
    """The directory of such a study."""
    root = folders.mktemp("studies") / "mine"
    write_study(root)
    return root


def export_command(root: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """`supersam export` in a study: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["export", "--output", str(root), *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
