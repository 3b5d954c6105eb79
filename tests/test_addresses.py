import io
import json
import os
import pickle

import pytest
from mlflow_server import free_port, mlflow_server
from rich.console import Console
from test_report import DESIGN, EVALUATED, FRONT, IMPORTANCE, PARENT

from automl.cli import main
from automl.commands import where_to_look
from automl.output import check_output, claim_output, read_config
from automl.sam.config import StudyConfig, check_config, load_config
from automl.sam.inputs import data_source
from automl.sam.report import report_page
from automl.sam.study import Study
from automl.sam.tables import left_out_table
from automl.sam.tracking import Tracking
from automl.sam.workspace import Workspace
from automl.study_log import LOG, log_line
from search_spaces import InputError
from search_spaces.addresses import printable, shown, without_secrets
from trainables.data.storage import Location
from trainables.data.summary import PrepareSummary, Rejection

KEY, SECRET = "AKIAKEY", "hush/hush"
DATA = f"s3://{KEY}:hush%2Fhush@bucket/cells?region=eu-1&session_token=tok3n"
STORE = "postgresql://me:hushhush@db.lan/mlflow"


def quiet(text: str) -> bool:
    return not any(secret in text for secret in (KEY, "hush", "tok3n"))


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        (DATA, "s3://bucket/cells?region=eu-1&session_token=***"),
        # A key with a slash that was not encoded: everything up to the last @ goes.
        (f"s3://{KEY}:{SECRET}@bucket/cells", "s3://bucket/cells"),
        (f"s3://{KEY}:hush?hush@bucket/cells", "s3://bucket/cells"),
        (f"s3://{KEY}:hush#hush@bucket/cells", "s3://bucket/cells"),
        (f"s3://b/c?endpoint_override=http://{KEY}:hush@h", "s3://b/c?endpoint_override=***"),
        ("http://me:hush@127.0.0.1:5000/a", "http://127.0.0.1:5000/a"),
        ("http://hush@host/a?sig=hush&b", "http://host/a?sig=***&b"),
        (STORE, "postgresql://db.lan/mlflow"),
        # Nothing secret is in these.
        ("http://127.0.0.1:5000/#", "http://127.0.0.1:5000/#***"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("s3://bucket/a@b.parquet", "s3://bucket/a@b.parquet"),
        ("/data/a:b@c", "/data/a:b@c"),
        ("nuclei", "nuclei"),
    ],
)
def test_addresses_are_shown_without_secrets(address, seen):
    assert shown(address) == seen
    assert quiet(seen)
    assert without_secrets(f"can't read '{address}', why?") == f"can't read '{seen}', why?"


def test_errors_hold_no_secrets_and_no_control_characters():
    error = InputError(f"no such place: {DATA}\x1b]0;title\x07, {STORE}")
    assert str(error) == (
        r"no such place: s3://bucket/cells?region=eu-1&session_token=***\x1b]0;title\x07, "
        "postgresql://db.lan/mlflow"
    )
    assert printable("a\nb\udcff é ü 漢") == "a\nb\\udcff é ü 漢"


def test_a_configuration_is_the_same_with_and_without_its_secrets(tmp_path):
    config = check_config({"data": DATA, "tracking": {"uri": STORE}}, "here")
    assert config.data == DATA  # it is used with them
    workspace = Workspace(config, tmp_path / "mine")
    claim_output(workspace)
    written = (workspace.root / "config.yaml").read_text()
    assert quiet(written)
    assert "s3://bucket/cells" in written
    check_output(workspace, check_config)  # the directory is still this configuration's
    assert read_config(workspace.root, check_config).key == config.key
    assert quiet(str(pickle.loads(pickle.dumps(workspace)).config))
    other = check_config({"data": DATA.replace("cells", "others")}, "here")
    with pytest.raises(InputError, match=r"data is s3://bucket/cells\S+ there") as caught:
        check_output(Workspace(other, workspace.root), check_config)
    assert quiet(str(caught.value))


@pytest.mark.parametrize(
    "words",
    [
        [f"data={DATA.replace('s3', 's9')}"],
        [f"data={DATA}/x?y=%"],
        [f"tracking={STORE}"],
        [f"model={STORE}"],
        [f"checkpoint={DATA}", f"seed={DATA}"],
        [f"{DATA}"],
        [f"data={DATA}", "--pictures", f"{STORE}"],
    ],
)
def test_a_mistake_quotes_no_secret(words, tmp_path, capsys):
    assert main(["evaluate", "--output", str(tmp_path / "a"), *words]) == 2
    said = capsys.readouterr()
    assert quiet(said.out + said.err)
    assert said.err.count("\n") == 1


def test_a_library_s_own_error_quotes_no_secret(monkeypatch, capsys):
    def broken(*arguments):
        try:
            raise OSError(f"cannot reach {DATA}")
        except OSError as error:
            raise RuntimeError(f"gave up on {STORE}") from error

    monkeypatch.setattr("automl.commands.load_config", broken)
    assert main(["profile"]) == 1
    said = capsys.readouterr().err
    assert "RuntimeError: gave up on postgresql://db.lan/mlflow" in said
    assert "Traceback" in said
    assert quiet(said)


def test_an_address_that_can_t_be_reached_is_named_without_its_secrets(tmp_path):
    with pytest.raises(InputError, match="is no place that can be read") as caught:
        Location.at(DATA.replace("s3", "s9"))
    assert quiet(str(caught.value))
    closed = f"s3://{KEY}:hush@bucket/a?endpoint_override=127.0.0.1:{free_port()}&scheme=http"
    with pytest.raises(InputError) as caught:
        data_source(StudyConfig(data=closed))
    assert quiet(str(caught.value))


def test_logs_and_pages_show_no_secret(tmp_path):
    log_line(tmp_path, f"lost {DATA}\x1b[2J")
    assert quiet((tmp_path / LOG).read_text())
    config = StudyConfig.model_validate({"data": DATA, "tracking": {"uri": STORE}})
    page = report_page("mine", FRONT, PARENT, [DESIGN], IMPORTANCE, EVALUATED, [], config, STORE)
    assert "postgresql://db.lan/mlflow" in page
    assert quiet(page)
    study = Study(load_config(None, []), tmp_path / "empty")
    study.config = config
    study.subnets_link = lambda: None  # type: ignore[method-assign]
    assert where_to_look(study).endswith("--backend-store-uri postgresql://db.lan/mlflow")


def test_an_mlflow_server_s_password_is_in_no_run_link_or_output(tmp_path, monkeypatch, capfd):
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    store, port = f"sqlite:///{tmp_path / 'runs.db'}", free_port()
    with mlflow_server(store, tmp_path, port):
        uri = f"http://{KEY}:hush%2Fhush@127.0.0.1:{port}"
        config = StudyConfig.model_validate({"data": DATA, "tracking": {"uri": uri}})
        tracking = Tracking(config, tmp_path / "it's mine")
        tracking.log_metrics({"value": 1.0})
        tracking._client.set_terminated(tracking._study_run())
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == SECRET
        found = tracking._runs.find("study", config.key)
        assert found is not None
        assert quiet(json.dumps(found.to_dictionary()))
        assert found.data.params["data"] == shown(DATA)
        tracking._client.set_experiment_tag(
            found.info.experiment_id, f"mlflow.sharedViewState.{found.info.run_id}", "{}"
        )
        link = tracking.subnets_link()
        assert link is not None
        assert link.startswith(f"http://127.0.0.1:{port}/#/")
    said = capfd.readouterr()
    assert quiet(said.out + said.err)
    assert "View run" not in said.out  # `--json` has one object on standard output


def test_names_of_files_are_no_markup():
    rejected = {"broken": Rejection(1, "[/red]\x1b[2J[link=http://x]a.png: why")}
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(left_out_table(PrepareSummary({}, {}, rejected)))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert r"[/red]\x1b[2J[link=http://x]a.png: why" in said
