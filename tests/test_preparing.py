"""Preparing as a user does it: on Ray, to and from S3, with the command line."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from pyarrow import fs
from tiny import write_label_maps

from automl.base_config import ResourcesConfig
from automl.cli import main
from automl.sam.config import PACKAGED_DATA, load_config
from automl.sam.preparing import ray_mapper
from automl.sam.study import Study
from search_spaces import InputError
from trainables.data.chunks import Chunk, read_chunk
from trainables.data.pictures import Pictures
from trainables.data.prepare import FILES, prepare
from trainables.data.reader import ReadOptions
from trainables.data.splits import SPLITS, SplitRule
from trainables.data.storage import Location

PROJECT = Path(__file__).parent.parent
RULE = SplitRule(val=0.15, test=0.2)
PARQUET = [name for name in FILES if name.endswith(".parquet")]
SERVER = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The query of URIs of an S3 on this machine, in which there is `bucket`."""
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server,
    ):
        for name, value in {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        assert server.stdout is not None
        query = f"?scheme=http&endpoint_override=127.0.0.1:{server.stdout.readline().strip()}"
        store, _ = fs.FileSystem.from_uri(f"s3://bucket{query}&allow_bucket_creation=true")
        store.create_dir("bucket")
        yield query
        server.kill()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures enough that Ray is worth while."""
    folder = tmp_path_factory.mktemp("many")
    write_label_maps(folder, [f"picture-{i:03d}" for i in range(100)])
    (folder / "labels" / "picture-007.png").write_bytes(b"broken")
    return folder


@pytest.fixture
def damaged(dataset: Path, tmp_path: Path) -> Path:
    """A data set with a label map that can't be read."""
    folder = shutil.copytree(dataset, tmp_path / "damaged")
    (folder / "labels" / "picture-07.png").write_bytes(b"broken")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in PARQUET}


def names_in(place: str) -> set[str]:
    store, path = fs.FileSystem.from_uri(place)
    return {info.base_name for info in store.get_file_info(fs.FileSelector(path))}


def test_ray_tasks_give_the_same_bytes(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    settings = {"rule": RULE, "limits": {"train": 60}}
    alone = prepare(many, tmp_path / "alone", **settings)  # type: ignore[arg-type]
    assert not ray.is_initialized()
    mapper = ray_mapper(ResourcesConfig())

    def loads_torch(chunk: Chunk) -> bool:
        read_chunk(chunk)
        return "torch" in sys.modules

    chunk = Chunk("label_maps", Location.at(many), (), ReadOptions(), 1, None)
    try:
        assert list(mapper(loads_torch, [chunk] * 6)) == [False] * 6  # type: ignore[arg-type]
        on_ray = prepare(many, tmp_path / "ray", mapper=mapper, **settings)  # type: ignore[arg-type]
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")
    assert (on_ray.splits, on_ray.left_out()) == (alone.splits, alone.left_out())


def test_few_pictures_do_not_start_ray(dataset: Path, tmp_path: Path) -> None:
    prepare(dataset, tmp_path, rule=RULE, mapper=ray_mapper(ResourcesConfig()))
    assert not ray.is_initialized()


def test_an_s3_serves_as_source_and_as_target(
    dataset: Path, s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = fs.FileSystem.from_uri(f"s3://bucket{s3}")
    fs.copy_files(str(dataset), "bucket/raw", destination_filesystem=store)
    place = f"s3://bucket/prepared{s3}"
    shares = ["prepare.val=0.25", "prepare.test=0.25"]
    assert main(["prepare", "--to", place, f"data=s3://bucket/raw{s3}", *shares, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["splits"]
    assert names_in(place) == set(FILES)
    local = tmp_path / "local"
    prepare(dataset, local, rule=SplitRule(val=0.25, test=0.25))
    output = tmp_path / "study"
    assert main(["prepare", "--output", str(output), f"data={place}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"] == counts
    assert contents(output / "data") == contents(local)
    pictures = Pictures(f"s3://bucket/prepared/test.parquet{s3}")
    assert len(pictures) == counts["test"]["pictures"]
    assert pictures[0].id == Pictures(local / "test.parquet")[0].id


def test_a_failure_leaves_nothing_in_an_s3(
    damaged: Path, s3: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"s3://bucket/strict{s3}"
    assert main(["prepare", "--to", place, f"data={damaged}", "--strict"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "labels/picture-07.png: mask can't be read" in line
    assert names_in(place) == set()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--to", "s3://nobody/x{s3}"], "nobody/x can't be written: "),
        (["--to", "s4://bucket/x"], "s4://bucket/x is no place"),
        (["--to", "{tmp}/x", "--output", "{tmp}/y"], "--to: give it or --output"),
        (["--to", "{tmp}/x", "data=s3://nobody/x{s3}"], "data: s3://nobody/x"),
        (["--to", "{tmp}/x", "--format", "voc"], "format: 'voc' is unknown"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    part: str,
    dataset: Path,
    s3: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.format(s3=s3, tmp=tmp_path) for argument in arguments]
    data = [] if any(g.startswith("data=") for g in given) else [f"data={dataset}"]
    assert main(["prepare", *given, *data]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("supersam: ")
    assert part in line
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_out_is_shown_with_an_example(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"data={damaged}", "prepare.min_area=400", "prepare.limits.train=2", "prepare.val=0.3"]
    assert main(["prepare", "--to", str(tmp_path / "x"), "--format", "label_maps", *given]) == 0
    out = capsys.readouterr().out
    for part in ("train", "over the limit", "too small", "labels/picture-07.png", "per second"):
        assert part in out


def test_relative_paths_are_resolved_where_they_are_given(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset.parent)
    given = [f"data={dataset.name}", "checkpoint=weights.safetensors"]
    config = load_config(None, given)
    assert config.data == str(dataset)
    assert config.checkpoint == dataset.parent / "weights.safetensors"
    assert load_config(None, given).key == config.key
    assert load_config(None, [f"data={dataset}", given[1]]).key == config.key
    for place in ("s3://bucket/x", *PACKAGED_DATA):
        assert load_config(None, [f"data={place}"]).data == place
    monkeypatch.chdir(tmp_path)
    assert load_config(None, given).key != config.key


def test_strictness_is_no_other_study(dataset: Path, tmp_path: Path) -> None:
    given = [f"data={dataset}", "prepare.val=0.25", "prepare.test=0.25"]
    study = Study(load_config(None, [*given, "prepare.strict=true"]), tmp_path / "study")
    study.run_until("data")
    assert sum(split["pictures"] for split in study.prepared().splits.values()) == 14
    assert Study(load_config(None, given), tmp_path / "study").prepared() == study.prepared()
    with pytest.raises(InputError, match="belongs to another configuration"):
        Study(load_config(None, [*given, "prepare.min_area=9"]), tmp_path / "study")


def test_a_study_in_a_directory_of_an_older_version_goes_on(dataset: Path, tmp_path: Path) -> None:
    config = load_config(None, [f"data={dataset}", "prepare.val=0.25", "prepare.test=0.25"])
    Study(config, tmp_path / "study").run_until("data")
    written = tmp_path / "study" / "config.yaml"
    lines = [line for line in written.read_text().splitlines() if "tile" not in line]
    written.write_text("\n".join(lines).replace(config.key, "0123456789ab"))
    assert Study(config, tmp_path / "study").prepared().splits.keys() == set(SPLITS)
