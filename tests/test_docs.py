"""README and docs say what is so.

- Python blocks are run, in a folder of their own. A study that a block opens is one that is done,
  made for it (`finish`), so that `study.run()` gives its result at once; MLflow's registry is
  a stand-in with MLflow's own check of what goes in. Nothing else is replaced.
- Shell blocks are parsed by the command lines of the programs that they call, and not run. Keys and
  values are read as a configuration, paths must exist unless they are the reader's.
- YAML blocks are read as a configuration. Other blocks are for people.
- Keys, commands and paths in the text must exist, and defaults in tables be the code's.
"""

import importlib.util
import io
import random
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from documented import (
    PAGES,
    Block,
    Stale,
    blocks,
    check_command,
    check_defaults,
    check_inline,
    check_json,
    check_yaml,
    commands,
    inline_codes,
    links,
    tables_of_defaults,
)
from mlflow.models import validate_schema
from PIL import Image
from tiny import CONFIG, SPACE, tiny_sam

from automl import output
from automl.asked import QUICK_START
from automl.commands import PROJECT
from automl.files import write_json
from automl.ledger import write_rows
from automl.sam import logged_model, serving
from automl.sam.config import PACKAGED_DATA, load_config
from automl.sam.design_trial import DESIGNS
from automl.sam.gallery import SCHEMA as GALLERY
from automl.sam.ledger import SCHEMA as LEDGER
from automl.sam.stages import FRONT
from automl.sam.workspace import Workspace
from automl.searchers.protocol import Problem, Values
from search_spaces import InputError, Subnet
from search_spaces.conv_plan import default_plan
from trainables.convolution.layers import paper_layer
from trainables.convolution.tuned import TunedLayer, TunedPlan, TunedTable
from trainables.sam.layer_worth import LayerWorth
from trainables.sam.standalone import extract, save_subnet

SITE = ("sphinx", "myst_parser", "furo")
PARENT = {
    "encoder_params": 5_000_000,
    "params": 9_000_000,
    "encoder_macs": 1_500_000_000,
    "latency_ms": 20.0,
    "miou_val": 0.7,
    "miou_test": 0.7,
}


def by_place(block: Block) -> str:
    return str(block)


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that stands alone, of another parent: small."""
    folder = tmp_path_factory.mktemp("standalone")
    save_subnet(extract(tiny_sam(), CONFIG, SPACE.smallest), CONFIG, SPACE.smallest, folder)
    return folder


def finish(workspace: Workspace, standalone: Path) -> None:
    """Make a study that is done: nothing was computed, but every file is there."""
    root, config = workspace.root, workspace.config
    if root.exists():
        return
    output.claim_output(workspace)
    (root / "data").symlink_to(PACKAGED_DATA["nuclei"])
    depth, width = workspace.encoder.depth, workspace.encoder.mlp_widths[0]
    design = config.designs.space.design(config.designs.space.first_points()[0])
    worth = [LayerWorth(layer, 0.1, 0.2) for layer in range(depth)]
    workspace.write_importance(worth, {}, design)
    whole = Subnet(tuple(range(depth)), (width,) * depth)
    write_json({**whole.to_dict(), **PARENT, "full_heads": []}, root / "parent.json")
    record = {"steps": config.designs.steps, "hypervolume": 0.4}
    write_rows(
        [{"design": design.key, **design.to_dict(), **record}], root / "designs.parquet", DESIGNS
    )
    weights = f"{design.key}@{config.final.steps}"
    rows = []
    for kept in (4, 8):
        subnet = Subnet(tuple(range(kept)), (width,) * kept)
        costs = {name: value * kept / depth for name, value in PARENT.items()}
        row = {"subnet": subnet.key, "design": design.key, "weights": weights, "split": "val"}
        rows.append({**row, **subnet.to_dict(), **costs})
        shutil.copytree(standalone, root / "subnets" / subnet.key)
    shutil.copytree(standalone, root / "subnets" / "KEY")
    write_rows(rows, root / "evaluations.parquet", LEDGER)
    write_rows([], root / "gallery.parquet", GALLERY)
    write_rows(rows, root / "front.parquet", FRONT)
    (root / "report.html").write_text("done")


class Registered:
    """What MLflow's registry gives: our own model behind MLflow's check of what goes in."""

    def __init__(self, folder: Path) -> None:
        self._model = serving.SubnetModel()
        self._model.load_context(SimpleNamespace(artifacts={"subnet": str(folder)}))

    def predict(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        validate_schema(rows, logged_model.SIGNATURE.inputs)
        return self._model.predict(None, pd.DataFrame(rows))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standalone: Path) -> Path:
    """Where a reader is who has run the quick start."""
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)

    def check(workspace: Workspace, family: Any) -> None:
        finish(workspace, standalone)
        output.check_output(workspace, family)

    def load_model(uri: str) -> Registered:
        assert re.fullmatch("models:/quickstart@(best|balanced|smallest)", uri)
        return Registered(standalone)

    monkeypatch.setattr("automl.base_study.check_output", check)
    monkeypatch.setattr("mlflow.pyfunc.load_model", load_model)
    monkeypatch.setattr("mlflow.set_tracking_uri", lambda uri: None)
    shape = paper_layer("conv9", 2)
    plan = TunedPlan(plan=default_plan(shape), latency_ms=1.0, peak_bytes=1)
    layer = TunedLayer(name="a", shape=shape, device="cpu", dtype="float32", plans=(plan,))
    (tmp_path / "runs" / "conv_tiles").mkdir(parents=True)
    TunedTable(layers=(layer,)).save(tmp_path / "runs" / "conv_tiles" / "tuned.json")
    config = load_config(PROJECT / QUICK_START, [])
    finish(Workspace(config, tmp_path / "runs" / "quickstart"), standalone)
    return tmp_path


def run_python(block: Block) -> None:
    """Run a block with what the text around it says the reader has; ask a searcher of its own."""
    pixels, encoded = np.zeros((60, 80, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(encoded, "png")
    x0, y0, x1, y1 = 10.0, 10.0, 50.0, 40.0
    names: dict[str, Any] = {
        "__name__": "__main__",
        "picture": pixels,
        "encoded_picture": encoded.getvalue(),
        "box": np.array([x0, y0, x1, y1]),
        **{"x0": x0, "y0": y0, "x1": x1, "y1": y1},
    }
    exec(compile(block.text, str(block), "exec"), names)
    for thing in list(names.values()):
        if isinstance(thing, type) and hasattr(thing, "ask"):
            searcher = thing(Problem(SPACE, lambda _: {}, tuple(SPACE.ladder(3)), False), 0)
            for _ in range(6):
                subnet = searcher.ask()
                assert SPACE.contains(subnet)
                searcher.tell(subnet, Values(random.random(), 0.5))


@pytest.mark.parametrize("block", blocks("python"), ids=by_place)
def test_a_python_block_runs(block: Block, reader: Path) -> None:
    run_python(block)


@pytest.mark.filterwarnings("ignore")  # of Ray's and MLflow's command lines
@pytest.mark.parametrize("block", blocks("sh"), ids=by_place)
def test_commands_are_what_the_programs_take(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for words in commands(block):
        check_command(words)


@pytest.mark.parametrize("block", blocks("yaml", "json"), ids=by_place)
def test_a_yaml_block_is_a_configuration(block: Block) -> None:
    (check_yaml if block.language == "yaml" else check_json)(block)


def test_there_is_a_check_for_every_language() -> None:
    for_people = {"", "text", "{toctree}", "{eval-rst}"}
    assert {block.language for block in blocks()} <= for_people | {"sh", "python", "yaml", "json"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_what_a_page_names_is_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for code in inline_codes(page):
        check_inline(code)
    for keys, said in tables_of_defaults(page):
        check_defaults(keys, said)
    for target in links(page):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "command",
    [
        "supersam explode",
        "supersam run --outptu runs/a",
        "supersam run final.step=3",
        "supersam run final.steps=none",
        "supersam run constraints.weight=50%",
        "supersam run --config configs/quickest.yaml",
        "supersam export KEY --best 'encoder_params is small'",
        "supersam run search.searcher=examples/no_searcher.py:Neighbours",
        "supersam run --config configs/conv_tiles.yaml search.evaluation=3",
        "supersam train --config configs/conv_tiles.yaml",
        "make rum",
        "python examples/quick_start.py --otput runs/a",
        "python benchmarks/nothing.py",
        "ray submit ray_cluster.yaml run.py -- --config configs/quickest.yaml",
        "ray subbmit ray_cluster.yaml run.py",
        "mlflow ui --backend-uri sqlite:///runs/mlflow.db",
        "pip install --editable '.[nothing]'",
        "rm -rf runs",
    ],
)
def test_a_stale_command_is_found(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    with pytest.raises((Stale, InputError)):
        for words in commands(Block("page", 1, "sh", command)):
            check_command(words)


@pytest.mark.parametrize(
    "text",
    [
        "from automl.sam.study import Studies",
        "from automl.sam.config import load_config\nload_config(None, []).finals",
        "from automl.sam.config import StudyConfig\nStudyConfig(mode='vit_t')",
        "import pandas as pd\npd.read_parquet('runs/quickstart/front.parquet')['miou']",
    ],
)
def test_a_stale_python_block_is_found(text: str, reader: Path) -> None:
    with pytest.raises((ImportError, AttributeError, ValueError, KeyError)):
        run_python(Block("page", 1, "python", text))


@pytest.mark.parametrize(
    "code", ["designs.trails", "designs.trials=many", "supersam go", "automl/nothing.py"]
)
def test_a_stale_name_is_found(code: str) -> None:
    with pytest.raises((Stale, InputError)):
        check_inline(code)


def test_a_stale_default_is_found() -> None:
    with pytest.raises(Stale, match=r"0\.15"):
        check_defaults(["prepare.val", "prepare.test"], "0.1, 0.2")


@pytest.mark.filterwarnings("ignore")  # of Sphinx's extensions about each other
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in SITE),
    reason="the site's tools are not installed: pip install --editable '.[docs]'",
)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    from sphinx.cmd.build import main

    options = ["-q", "-W", "--keep-going", "-d", str(tmp_path / "doctrees")]
    assert main([*options, str(PROJECT / "docs"), str(tmp_path / "site")]) == 0
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "api.html", "faq.html"} <= {page.name for page in pages}
    for page in pages:  # looking at it needs no network either
        fetched = r'<(?:script|img)[^>]*src="https?:|<link[^>]*href="https?:[^"]*"[^>]*stylesheet'
        assert not re.search(fetched, page.read_text()), page
