"""What MLflow's pages show of a study, in a browser, and the link to it that the command prints."""

import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_server import free_port, mlflow_server
from test_report import FRONT, PARENT
from tiny import CONFIG, SPACE, tiny_sam

from automl.charts import as_png
from automl.commands import where_to_look
from automl.sam.charts import front_chart
from automl.sam.config import StudyConfig
from automl.sam.study import Study
from automl.sam.tracking import Tracking
from automl.views import PREFIX, link
from trainables.sam.standalone import extract, save_subnet

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
ROWS = [{**row, "design": "dddd"} for row in FRONT]
DESIGN = {
    "design": "dddd",
    "metric": "wanda",
    "expected_dropped": 1.5,
    "space_size": 8.0,
    "steps": 8,
    "evaluations": 2,
    "front_size": 2,
    "hypervolume": 0.4321,
    "best_miou_val": 0.6,
}
PAGES = {
    "subnets": [
        *("depth", "mlp_ratio_mean", "encoder_macs_g", "latency_ms", "miou_val", "0.6123"),
        *("0% smaller, 2 layers", "0% smaller, 1 layers"),
    ],
    "compare": ["Parallel Coordinates", "Depth, MLP width, MACs, latency and quality"],
    "study": ["best_hypervolume_so_far", "encoder MACs, G", "get-artifact?path=front.png", "bbbb"],
    "designs": ["8 steps, design dddd", "hypervolume", "0.4321", "expected_dropped"],
}
BROKEN = ("Error while loading", "Something went wrong", "Page not found", "does not exist")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose runs are logged as they are at its end; nothing was computed."""
    folder = tmp_path_factory.mktemp("ui")
    subnet = folder / "subnet"
    save_subnet(extract(tiny_sam(), CONFIG, SPACE.smallest), CONFIG, SPACE.smallest, subnet)
    made = Study(StudyConfig(), folder / "mine")
    tracking = Tracking(made.config, made.output)
    for number, hypervolume in enumerate([0.2, 0.4321], start=1):
        reached = {"hypervolume": hypervolume, "front_size": number}
        tracking.log_search("dddd@8", [(number, reached)])
    tracking.log_design(DESIGN)
    tracking.log_history(ROWS, PARENT["encoder_macs"], made.config.search.quality_floor)
    for row in ROWS:
        tracking.log_subnet(row, PARENT, subnet)
    assert made.subnets_link() is None
    pictures = {"front.png": as_png(front_chart(ROWS, PARENT), scale=1)}
    tracking.log_study(ROWS, PARENT, 0.4321, pictures)
    return made


@pytest.fixture(scope="module")
def server(study: Study) -> Iterator[str]:
    with mlflow_server(study.tracking_uri, study.output.parent, free_port()) as address:
        yield address


@pytest.fixture(scope="module")
def links(study: Study, server: str) -> dict[str, str]:
    found = study.subnets_link()
    assert found is not None
    subnets = found.replace("http://127.0.0.1:5000", server)
    run = found.split("=")[-1]
    return {
        "subnets": subnets,
        "compare": f"{subnets}&compareRunsMode=CHART",
        "study": f"{subnets.split('?')[0]}/{run}",
        "designs": subnets.replace(run, "designs"),
    }


def shown(page: str, profile: Path, patience_ms: int) -> str:
    """The page as the browser has it when its scripts have run for `patience_ms`."""
    assert BROWSER is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    asked = ["--window-size=2400,1400", f"--virtual-time-budget={patience_ms}", "--dump-dom", page]
    command = [BROWSER, *options, "--disable-background-networking", "--no-first-run"]
    done = subprocess.run(
        [*command, f"--user-data-dir={profile}", *asked],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.replace("&amp;", "&")


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_it_is_for(links: dict[str, str], name: str, tmp_path: Path) -> None:
    # A page's charts come when the machine has drawn them: a busy one is given longer.
    for patience_ms in (5_000, 15_000, 45_000):
        page = shown(links[name], tmp_path / str(patience_ms), patience_ms)
        missing = [text for text in PAGES[name] if text not in page]
        if not missing:
            break
    assert missing == []
    assert [text for text in BROKEN if text in page] == []


def test_the_front_is_drawn_on_the_page_of_the_study(study: Study, server: str) -> None:
    run = str(study.subnets_link()).split("=")[-1]
    picture = f"{server}/get-artifact?path=front.png&run_uuid={run}"
    with urllib.request.urlopen(picture, timeout=20) as answer:
        assert answer.read().startswith(b"\x89PNG")


def test_the_command_says_how_to_see_the_subnets(study: Study) -> None:
    report, compare, subnets = where_to_look(study).splitlines()
    assert report == f"Report: {study.output / 'report.html'}"
    assert compare == f"Compare: mlflow ui --backend-store-uri {study.tracking_uri}"
    assert subnets == f"Subnets: {study.subnets_link()}"
    address = urllib.parse.urlsplit(subnets.removeprefix("Subnets: "))
    assert address.netloc == "127.0.0.1:5000", "where `mlflow ui` answers"
    path, _, query = address.fragment.partition("?")
    (key,) = urllib.parse.parse_qs(query)["viewStateShareKey"]
    client = MlflowClient(tracking_uri=study.tracking_uri)
    experiment = client.get_experiment_by_name("supersam")
    assert path == f"/experiments/{experiment.experiment_id}/runs"
    assert f"{PREFIX}{key}" in experiment.tags


def test_the_link_names_the_server_that_holds_the_runs() -> None:
    start = "http://10.0.0.5:8080/#/experiments/7/runs?"
    assert link("http://10.0.0.5:8080/", "7", "k").startswith(start)


def test_an_objective_of_ones_own_orders_and_draws_the_subnets(tmp_path: Path) -> None:
    own: dict[str, Any] = {f"metrics_{split}": [("F1 (mean)", 0.5)] for split in ("val", "test")}
    made = Study(StudyConfig(), tmp_path / "own")
    tracking = Tracking(made.config, made.output)
    rows = [{**row, **own} for row in ROWS]
    tracking.log_study(rows, {**PARENT, **own}, 0.4, {})
    client = MlflowClient(tracking_uri=made.tracking_uri)
    tags = client.get_experiment_by_name("supersam").tags
    view = tags[PREFIX + str(made.subnets_link()).split("=")[-1]]
    assert '"orderByKey":"metrics.`F1 _mean__val`"' in view
