"""What `fuzz.py` fuzzes: each target makes a sound file of its kind and reads changed ones."""

import dataclasses
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from fuzz_cases import changed, changed_any, damaged, json_texts, scalars, values
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors.torch import save

from automl.config_reading import config_keys, read_values
from automl.families import study_class
from automl.ledger import Ledger, write_rows
from automl.sam.config import StudyConfig, load_config
from automl.sam.ledger import SCHEMA as LEDGER
from automl.sam.ledger import SUBNETS
from search_spaces import InputError, SubnetSpace
from search_spaces.conv_plan import default_plan
from search_spaces.conv_shape import ConvShape
from trainables.channel_pruning.data import cifar
from trainables.channel_pruning.data.class_folders import class_folders
from trainables.convolution.tuned import TunedLayer, TunedPlan, TunedTable
from trainables.data.decode import count_pages, plain_picture, read_page
from trainables.data.opening import UnreadablePicture
from trainables.data.pictures import Pictures
from trainables.data.reader import AnnotatedObject, AnnotatedPicture, Item, ReadOptions
from trainables.data.readers import coco, sa1b
from trainables.data.readers.masks import BrokenMask, NoMask, annotated_rle, rle_of
from trainables.data.storage import Location
from trainables.data.summary import read_summary
from trainables.data.table import SCHEMA, RowWriter, decode_masks, object_rows
from trainables.latency_table import FORMAT, LatencyTable
from trainables.sam.models import build_sam, read_state_dict
from trainables.sam.standalone import extract, load_subnet, save_subnet
from trainables.sam.supernet import Supernet
from trainables.sam.vit import ViTConfig
from trainables.supernet import (
    STATE,
    TrainingSettings,
    load_checkpoint,
    make_optimiser,
    save_checkpoint,
)

Case = Any
ROOT = Path(__file__).resolve().parent.parent
H, W = 12, 16
ENCODER = ViTConfig(64, (32, 32), 16, 2, (1,), window_size=3)
SPACE = SubnetSpace(((16, 32), (32,)), drop_probabilities=(0.5, 0.0))


@dataclasses.dataclass(frozen=True)
class Target:
    """Cases, what reads one, one that is sound, and what reading may raise."""

    cases: st.SearchStrategy[Case]
    check: Callable[[Case], Any]
    sound: Case
    allowed: tuple[type[Exception], ...] = (InputError,)


class Make:
    """Makes a target in a folder; `weight` is its share of the cases."""

    def __init__(self, weight: int, make: Callable[[Path], Target]) -> None:
        self.weight, self._make = weight, make

    def __call__(self, folder: Path) -> Target:
        warnings.simplefilter("ignore")
        return self._make(folder)


def mask() -> np.ndarray:
    found = np.zeros((H, W), np.uint8)
    found[2:7, 3:9] = 1
    return found


def picture(format: str, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, format, **options)
    return content.getvalue()


def in_file(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Reads bytes from a file."""

    def check(content: bytes) -> None:
        path.write_bytes(content)
        read(path)

    return check


def configuration(folder: Path) -> Target:
    texts = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))]
    odd = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: !!python/object/apply:os.getcwd []\n"
    trees = changed_any([yaml.safe_load(text) for text in texts])
    dumped = trees.map(lambda tree: yaml.safe_dump(tree, allow_unicode=False).encode())
    sound = tuple(text.encode() for text in [*texts, odd])
    deep = st.sampled_from((40, 2000)).map(lambda n: b"seed: " + b"[" * n + b"]" * n)
    cases = st.one_of(dumped, damaged(sound), deep)
    return Target(cases, in_file(folder / "study.yaml", any_family), sound[0])


def any_family(path: Path) -> object:
    """The configuration of the family that it names."""
    values, where = read_values(path, [])
    return study_class(values, where).check(values, where)


def overrides(folder: Path) -> Target:
    keys = [
        *config_keys(StudyConfig),
        "",
        "designs",
        "training.augment",
        "a.b.c",
        "x[0]",
        "limits.train",
    ]
    words = st.one_of(
        scalars.map(str),
        values.map(lambda value: json.dumps(value)),
        st.sampled_from(
            ("${seed}", "${a", "{", "[1,", "!!python/name:os.system", "&a *a", "50%..")
        ),
    )
    word = st.tuples(st.sampled_from(keys), words).map("=".join)
    cases = st.lists(st.one_of(word, word, st.text(max_size=12)), min_size=1, max_size=3)
    return Target(cases, lambda given: load_config(None, given), ["seed=1", "model=vit_b"])


def read_everything(reader: Any, place: Path) -> None:
    """All that a reader hands over is sound, and its masks can be decoded."""
    folder, options = Location.at(place), ReadOptions()
    reader.recognises(folder)
    for item in reader.items(folder, options):
        for found in reader.read(folder, item, options) if isinstance(item, Item) else []:
            if isinstance(found, AnnotatedPicture):
                rows = object_rows(found.objects)
                masks = decode_masks(rows, found.height, found.width)
                assert [row["area"] for row in rows] == masks.sum((1, 2)).tolist()


def annotations() -> list[dict[str, Any]]:
    rle = rle_of(mask())
    compressed = {"size": [H, W], "counts": rle["counts"].decode()}
    plain = {"size": [H, W], "counts": [26, 5, 7, 5, H * W - 43]}
    polygon = [[1.0, 1.0, 9.0, 1.5, 9.0, 8.0, 2.0, 8.0]]
    segments = (compressed, plain, polygon)
    return [
        {"id": i, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": segment}
        for i, segment in enumerate(segments)
    ]


def coco_json(folder: Path) -> Target:
    (folder / "a.png").write_bytes(picture("png"))
    sound = {
        "images": [{"id": 1, "file_name": "a.png", "height": H, "width": W}],
        "annotations": annotations(),
        "categories": [{"id": 3, "name": "cell"}],
    }
    check = in_file(folder / "a.json", lambda path: read_everything(coco, folder))
    return Target(json_texts(sound), check, json.dumps(sound).encode())


def sa1b_json(folder: Path) -> Target:
    (folder / "sa_1.jpg").write_bytes(picture("jpeg"))
    sound = {"image": {"image_id": 1, "height": H, "width": W}, "annotations": annotations()}
    check = in_file(folder / "sa_1.json", lambda path: read_everything(sa1b, folder))
    return Target(json_texts(sound), check, json.dumps(sound).encode())


def rle(folder: Path) -> Target:
    def check(segmentation: Any) -> None:
        found = annotated_rle(segmentation, H, W)
        decoded = coco_mask.decode(found)
        assert decoded.shape == (H, W)
        assert 0 < decoded.sum() == coco_mask.area(found)

    counts = rle_of(mask())["counts"]
    texts = st.one_of(
        damaged((counts,)).map(lambda content: content.decode("latin1")),
        st.text(st.characters(min_codepoint=47, max_codepoint=113), max_size=30),
    )
    compressed = texts.map(lambda text: {"size": [H, W], "counts": text})
    runs = st.lists(st.one_of(st.integers(0, 60), st.integers(-(2**70), 2**70)), max_size=8)
    plain = runs.map(lambda listed: {"size": [H, W], "counts": listed})
    parts = changed_any([entry["segmentation"] for entry in annotations()])
    sound = annotations()[0]["segmentation"]
    cases = st.one_of(compressed, plain, parts, values)
    return Target(cases, check, sound, (BrokenMask, NoMask))


def pictures(folder: Path) -> Target:
    sound = (
        *(picture(f) for f in ("png", "jpeg", "bmp", "gif", "webp", "tiff", "ppm", "jpeg2000")),
        picture("png", "P"),
        picture("png", "LA"),
        picture("jpeg", "CMYK"),
        picture("tiff", "F"),
        picture("tiff", "I;16"),
        picture("tiff", compression="tiff_lzw"),
    )

    def check(content: bytes) -> None:
        found = plain_picture(content)
        with Image.open(io.BytesIO(found.image)) as again:
            assert (again.height, again.width) == found.size

    return Target(damaged(sound), check, sound[0], (UnreadablePicture,))


def stacks(folder: Path) -> Target:
    pages = [Image.fromarray(mask() * 255) for _ in range(3)]
    content = io.BytesIO()
    pages[0].save(content, "tiff", save_all=True, append_images=pages[1:])

    def read(path: Path) -> None:
        place = Location.at(path)
        for page in range(min(5, count_pages(place))):
            np.asarray(read_page(place, page))

    check = in_file(folder / "a.tif", read)
    sound = content.getvalue()
    return Target(damaged((sound,)), check, sound, (UnreadablePicture,))


def rows_of_a_split() -> list[dict[str, Any]]:
    found = object_rows([AnnotatedObject(i, "cell", rle_of(mask())) for i in range(2)])
    row = {"image": picture("png"), "height": H, "width": W, "objects": found}
    return [{"id": f"p{i}", **row} for i in range(3)]


def split_bytes(rows: list[dict[str, Any]]) -> bytes:
    content = io.BytesIO()
    with RowWriter(content) as writer:
        for row in rows:
            writer.add(pa.Table.from_pylist([row], schema=SCHEMA), 100)
        writer.close()
    return content.getvalue()


def any_table(rows: Any) -> bytes:
    """As Parquet, in the layout's columns where that goes, else as it comes."""
    content = io.BytesIO()
    for schema in (SCHEMA, None):
        try:
            table = pa.Table.from_pylist(rows, schema=schema)
            pq.write_table(table, content)
            break
        except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError, KeyError):
            content = io.BytesIO()
    return content.getvalue()


def splits(folder: Path) -> Target:
    def read(path: Path) -> None:
        found = Pictures(path)
        for i in range(min(4, len(found))):
            found[i].masks()

    sound = split_bytes(rows_of_a_split())
    names = changed([{**row, "image": "IMAGE"} for row in rows_of_a_split()])
    tables = names.map(_with_pictures).map(any_table)
    cases = st.one_of(
        damaged((sound,)), damaged((sound[-1500:],)).map(lambda end: sound[:-1500] + end)
    )
    return Target(st.one_of(cases, tables), in_file(folder / "train.parquet", read), sound)


def _with_pictures(rows: Any) -> Any:
    if not isinstance(rows, list):
        return rows
    content = picture("png")
    return [
        {**row, "image": content} if isinstance(row, dict) and row.get("image") == "IMAGE" else row
        for row in rows
    ]


def ledgers(folder: Path) -> Target:
    empty = dict.fromkeys(LEDGER.names)
    row = {**empty, "subnet": "aa", "design": "bb", "weights": "bb@8", "split": "val"}
    row |= {"pictures": 4, "layers": [0, 1], "mlp_widths": [8, 8], "miou_val": 0.5}
    path = folder / "sound.parquet"
    write_rows([row, {**row, "subnet": "cc"}], path, LEDGER)
    sound = path.read_bytes()
    tables = changed([row, {**row, "subnet": "cc"}]).map(any_table)
    check = in_file(
        folder / "part.parquet", lambda file: Ledger(file, SUBNETS, lambda text: None).rows()
    )
    return Target(st.one_of(damaged((sound,)), tables), check, sound)


def checkpoints(folder: Path) -> Target:
    state = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2), "n": torch.tensor(1)}
    header = json.loads(save(state)[8:].split(b"}}")[0] + b"}}")
    whole = io.BytesIO()
    torch.save(state, whole)
    old = io.BytesIO()
    torch.save(state, old, _use_new_zipfile_serialization=False)

    def check(case: tuple[str, bytes]) -> None:
        suffix, content = case
        in_file(folder / f"a.{suffix}", read_state_dict)(content)

    headers = changed(header).map(lambda value: json.dumps(value).encode())
    packed = headers.map(lambda text: len(text).to_bytes(8, "little") + text + bytes(40))
    tensors = st.one_of(damaged((save(state),)), packed).map(lambda c: ("safetensors", c))
    pickled = damaged((whole.getvalue(), old.getvalue())).map(lambda c: ("pth", c))
    return Target(st.one_of(tensors, pickled), check, ("safetensors", save(state)))


def states(folder: Path) -> Target:
    supernet = Supernet(build_sam(ENCODER))
    optimiser = make_optimiser(supernet, TrainingSettings())
    save_checkpoint(supernet, optimiser, SPACE, 3, folder)
    sound = json.loads((folder / STATE).read_text())
    check = in_file(
        folder / STATE, lambda path: load_checkpoint(supernet, optimiser, SPACE, folder)
    )
    return Target(json_texts(sound), check, json.dumps(sound).encode())


def subnets(folder: Path) -> Target:
    smallest = SPACE.smallest
    save_subnet(extract(build_sam(ENCODER), ENCODER, smallest), ENCODER, smallest, folder)
    sound = json.loads((folder / "subnet.json").read_text())
    check = in_file(folder / "subnet.json", lambda path: load_subnet(folder))
    return Target(json_texts(sound), check, json.dumps(sound).encode())


def latency_tables(folder: Path) -> Target:
    kind = {"layers": [0, 1], "attention": "global", "tokens": [16, 16], "widths": [16, 32]}
    kind |= {"heads": [2], "ms": [[1.0, 2.0]], "peak_bytes": [[10.0, 20.0]]}
    sound: dict[str, Any] = dict.fromkeys(LatencyTable.__dataclass_fields__, 1)
    sound |= {"format": FORMAT, "model": "vit_t", "image_size": 256, "kinds": [kind]}
    check = in_file(folder / "latency.json", lambda path: LatencyTable.load(path, "vit_t", 256))
    return Target(json_texts(sound), check, json.dumps(sound).encode())


def tuned_plans(folder: Path) -> Target:
    shape = ConvShape(2, 3, (14, 11), 5, (3, 5))
    plan = TunedPlan(plan=default_plan(shape), latency_ms=1.0, peak_bytes=200)
    layer = TunedLayer(name="a", shape=shape, device="cpu", dtype="float32", plans=(plan,))
    sound = json.loads(TunedTable(layers=(layer,)).model_dump_json())

    def read(path: Path) -> None:
        TunedTable.load(path).plan_for(shape, torch.device("cpu"), torch.float32)

    check = in_file(folder / "tuned.json", read)
    return Target(json_texts(sound), check, json.dumps(sound).encode())


def summaries(folder: Path) -> Target:
    sound = {
        "splits": {"train": {"pictures": 1, "objects": 2}},
        "dropped": {"objects": {"empty": 1}},
        "rejected": {"broken": {"count": 1, "example": "a.png"}},
        "seconds": 1.0,
        "pictures_per_second": 2.0,
    }
    check = in_file(folder / "summary.json", lambda path: read_summary(Location.at(folder)))
    return Target(json_texts(sound), check, json.dumps(sound).encode())


def archives(folder: Path) -> Target:
    contents = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as archive:
            for name in ("a/1.png", "a/2.png", "b/1.png"):
                archive.writestr(name, picture("png"))
        contents.append(content.getvalue())

    def read(path: Path) -> None:
        for images in class_folders(path).values():
            for i in range(len(images)):
                images.read(i)

    return Target(damaged(tuple(contents)), in_file(folder / "a.zip", read), contents[1])


def pickles(folder: Path) -> Target:
    pixels = np.zeros((2, 3072), np.uint8)
    batch = {"data": pixels, "labels": [0, 1]}
    for name in (*cifar.LAYOUTS["cifar10"].train, "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}, protocol=2))
    sound = tuple(pickle.dumps(batch, protocol=protocol) for protocol in (0, 2, 5))
    short = tuple(content.replace(bytes(3000), b"") for content in sound)
    check = in_file(folder / "test_batch", lambda path: cifar.read(folder))
    return Target(damaged(sound + short), check, sound[0])


TARGETS = {
    "configuration": Make(3, configuration),
    "overrides": Make(8, overrides),
    "coco": Make(8, coco_json),
    "sa1b": Make(8, sa1b_json),
    "rle": Make(38, rle),
    "pictures": Make(14, pictures),
    "stacks": Make(4, stacks),
    "splits": Make(6, splits),
    "ledger": Make(2, ledgers),
    "checkpoints": Make(4, checkpoints),
    "state": Make(1, states),
    "subnet": Make(1, subnets),
    "latency": Make(1, latency_tables),
    "tuned": Make(1, tuned_plans),
    "summary": Make(1, summaries),
    "archives": Make(1, archives),
    "cifar": Make(1, pickles),
}
