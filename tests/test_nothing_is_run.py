"""Opening a file runs nothing that is in it."""

import ast
import pickle
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_channel_pruning_data import write_cifar10

from automl.cli import main
from automl.commands import PROJECT
from automl.output import claim_output, read_config
from automl.sam.config import StudyConfig, check_config, load_config
from automl.sam.workspace import Workspace
from search_spaces import InputError
from trainables.channel_pruning.data.pickled_table import read_table
from trainables.channel_pruning.data.reading import read_images
from trainables.channel_pruning.networks import load_network
from trainables.sam.models import load_sam, read_state_dict

PACKAGES = ("automl", "trainables", "search_spaces", "scripts", "examples", "benchmarks")
# Modules that make any object, or run anything, that a file names; and who may import them.
LOADERS = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve", "jsonpickle"}
MAY = {
    "trainables/channel_pruning/data/pickled_table.py",  # names are looked up in a table of its own
    "automl/trials.py",  # Ray's own copy of an error of this study's
    "scripts/fuzz_targets.py",  # writes them
}


class Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def trees() -> Iterator[tuple[str, ast.AST]]:
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            yield path.relative_to(PROJECT).as_posix(), ast.parse(path.read_text())


def unsafe(place: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        )
        module = node.module if isinstance(node, ast.ImportFrom) else None
        found = {name.split(".")[0] for name in [*names, *([module] if module else [])]}
        if found & LOADERS and place not in MAY:
            yield f"{place}:{node.lineno} imports {found & LOADERS}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        wrong = {
            "torch.load": given.get("weights_only") != "True",
            "np.load": given.get("allow_pickle", "False") != "False",
            "yaml.load": "Safe" not in given.get("Loader", ""),
            "yaml.compose": "Safe" not in given.get("Loader", ""),
            "yaml.unsafe_load": True,
            "yaml.full_load": True,
            "pd.read_pickle": True,
            "torch.jit.load": True,
            "torch.package.PackageImporter": True,
            "eval": True,
            "exec": True,
        }
        if wrong.get(called):
            yield f"{place}:{node.lineno} {ast.unparse(node)[:80]}"


def test_no_loader_makes_what_a_file_names():
    found = [line for place, tree in trees() for line in unsafe(place, tree)]
    assert found == []
    careless = "import torch, pickle\ntorch.load(p)\nnp.load(p, allow_pickle=True)\neval(p)"
    assert len(list(unsafe("x.py", ast.parse(careless)))) == 4


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_a_checkpoint_that_would_run_code_is_one_line(tmp_path, old, name):
    trace = tmp_path / "trace"
    content = {"image_encoder.pos_embed": torch.zeros(1), "more": Harmful(trace)}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not old)
    for load in (partial(load_sam, "vit_t"), lambda path: load_network("resnet56", path, 10)):
        with pytest.raises(InputError, match="can't be read as weights: ") as caught:
            load(tmp_path / name)
        assert str(caught.value).startswith(f"checkpoint: {tmp_path / name} ")
    assert not trace.exists()
    if name.endswith("pth"):
        torch.load(tmp_path / name, weights_only=False)
        assert trace.exists()  # it would have


def test_a_command_with_such_a_checkpoint_leaves_nothing(tmp_path, capsys):
    trace, output, path = tmp_path / "trace", tmp_path / "out", tmp_path / "evil.pth"
    torch.save({"a": Harmful(trace)}, path)
    words = ["run", "--output", str(output), f"checkpoint={path}"]
    assert main([*words, f"tracking.uri=sqlite:///{tmp_path}/runs.db"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"supersam: checkpoint: {path} can't be read as weights: ")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:pathlib.Path.touch [!!python/name:os.getcwd '']",
        "seed: !!python/object/apply:os.system ['touch TRACE']",
        "!!python/object/new:os.system ['touch TRACE']",
        "a: !!python/name:os.system",
    ],
)
def test_a_configuration_that_would_run_code_is_one_line(tmp_path, capsys, text):
    trace, path = tmp_path / "trace", tmp_path / "evil.yaml"
    path.write_text(text.replace("TRACE", str(trace)))
    assert main(["profile", "--config", str(path), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"supersam: {path}: ")
    assert said.count("\n") == 1
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "config.yaml").write_text(path.read_text())
    with pytest.raises(InputError):
        read_config(tmp_path / "study", check_config)
    assert not trace.exists()


def test_a_study_s_directory_names_code_that_is_not_run(tmp_path, capsys):
    trace, code = tmp_path / "trace", tmp_path / "evil.py"
    code.write_text(f"from pathlib import Path\nPath({str(trace)!r}).touch()\n")
    for key in ("search.objective", "search.searcher", "model"):
        output = tmp_path / key
        claim_output(Workspace(StudyConfig(), output))
        written = yaml.safe_load((output / "config.yaml").read_text())
        section, _, name = key.rpartition(".")
        (written[section] if section else written)[name] = f"{code}:found"
        (output / "config.yaml").write_text(yaml.safe_dump(written))
        assert main(["export", "--output", str(output), "aaaaaaaaaaaa"]) == 2
        assert main(["report", "--output", str(output)]) == 2
        assert capsys.readouterr().err.count("\n") == 2
    assert not trace.exists()
    with pytest.raises(InputError):
        load_config(None, [f"search.objective={code}:found"])
    assert trace.exists()  # whoever names it in a configuration of his own has it run


def test_yaml_that_stands_for_too_much_is_one_line(tmp_path):
    path = tmp_path / "a.yaml"
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="stands for more than 100,000 values"):
        load_config(path, [])
    for text, why in (
        ("a: " + "[" * 40 + "]" * 40, "nested too deep"),
        ("a: " + "[" * 100_000, "nested too deep"),
        ("a: &a [*a]", "nested too deep"),
        ("#" * (1 << 21), "more than 1,048,576 bytes"),
        ("\x00", "not allowed"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=why):
            load_config(path, [])
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError):
        load_config(path, [])


@pytest.mark.parametrize(
    "key", ["../subnets/a", "..", ".", "", "/etc", "a/b", "../../elsewhere", "a/"]
)
def test_keys_of_subnets_lead_nowhere_else(tmp_path, key, capsys):
    config = load_config(PROJECT / "configs" / "quickstart.yaml", [])
    workspace = Workspace(config, tmp_path / "out")
    claim_output(workspace)
    (workspace.root / "subnets" / "a").mkdir(parents=True)
    assert workspace.subnet_folder("a") == workspace.root / "subnets" / "a"
    with pytest.raises(InputError, match="is no key of a subnet"):
        workspace.subnet_folder(key)
    if key:
        for words in (["export", key], ["export", "--subnet", key], ["evaluate", "--subnet", key]):
            assert main([*words, "--output", str(workspace.root)]) == 2
            assert "is no key of a subnet" in capsys.readouterr().err


def reduced(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle that has a function called."""
    called = b"".join(b"C" + bytes([len(a)]) + a for a in arguments)
    return b"\x80\x03c" + f"{module}\n{name}\n".encode() + b"(" + called + b"tR."


@pytest.mark.parametrize(
    "content",
    [
        reduced("os", "system", b"touch TRACE"),
        reduced("builtins", "eval", b"1"),
        reduced("numpy", "load", b"a"),
        reduced("numpy._core.multiarray", "fromfile", b"a"),
        b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",  # an array of two billion numbers
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a place in a table of two billion
        b"\x80\x02cnumpy\ndtype\n(U\x02O8tR.",
        pickle.dumps([1]),
        pickle.dumps({"data": np.zeros(3, object)}),
        pickle.dumps({"data": np.zeros(3, np.int64)}),
        b"",
        b"\x80",
    ],
)
def test_pickled_tables_hold_bytes_numbers_and_names_alone(content):
    try:
        found = read_table(content)
    except Exception as error:
        assert type(error).__name__ != "MemoryError"
    else:
        assert found == {}  # the table that is kept at a far place


def test_cifar_s_own_pickles_are_read_in_every_protocol(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(2, 128)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for array in (values, np.asfortranarray(values)):
            found = read_table(pickle.dumps({"data": array, b"labels": [1, 2]}, protocol=protocol))
            assert found["labels"] == [1, 2]
            assert np.array_equal(found["data"].values, values)
    write_cifar10(tmp_path / "c")
    (tmp_path / "c" / "test_batch").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(InputError, match="test_batch"):
        read_images(tmp_path / "c")


def test_a_header_of_safetensors_is_believed_in_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    for header in (
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 73)
        + b'{"a":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,4]}}',
    ):
        path.write_bytes(header)
        with pytest.raises(InputError, match="can't be read as weights: "):
            read_state_dict(path)
    with zipfile.ZipFile(path.with_suffix(".pth"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    with pytest.raises(InputError):
        load_sam("vit_t", path.with_suffix(".pth"))
