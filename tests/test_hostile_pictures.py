import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from tiny import write_label_maps

from search_spaces import InputError
from trainables.channel_pruning.data.class_folders import class_folders
from trainables.data import opening, storage
from trainables.data.decode import count_pages, plain_picture, read_page
from trainables.data.opening import UnreadablePicture
from trainables.data.prepare import prepare
from trainables.data.splits import SplitRule
from trainables.data.storage import Location

HUGE = 60_000
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims so much, with hardly any pixels behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "jpeg")
    found = bytearray(content.getvalue())
    at = found.index(b"\xff\xc0")
    found[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(found)


def tiff(*sizes: tuple[int, int]) -> bytes:
    """A stack whose pages claim these sizes (width, height), each with one strip of a few bytes."""
    content = bytearray(b"II*\x00" + struct.pack("<I", 8))
    for number, (width, height) in enumerate(sizes):
        tags = {
            256: width,
            257: height,
            258: 8,
            259: 1,
            262: 1,
            273: 0,
            277: 1,
            278: height,
            279: 4,
        }
        entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
        last = number == len(sizes) - 1
        after = 0 if last else len(content) + 2 + 12 * len(entries) + 4
        content += struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", after)
    return bytes(content)


@pytest.mark.parametrize("content", [png(HUGE, HUGE), jpeg(HUGE, HUGE), tiff((HUGE, HUGE))])
def test_a_header_that_claims_too_many_pixels_is_refused(content):
    assert len(content) < 10_000
    with pytest.raises(UnreadablePicture, match=r"178,?956,?970") as caught:
        plain_picture(content)
    assert "\n" not in str(caught.value)


def test_every_page_of_a_stack_is_looked_at(tmp_path, monkeypatch):
    place = tmp_path / "a.tif"
    place.write_bytes(tiff((4, 1), (HUGE, HUGE)))
    stack = Location.at(place)
    assert count_pages(stack) == 2
    assert np.asarray(read_page(stack, 0)).shape == (1, 4)
    with pytest.raises(UnreadablePicture, match="claims 60000×60000 pixels; at most 178,956,970"):
        read_page(stack, 1)
    monkeypatch.setattr(opening, "MOST_PAGES", 50)
    place.write_bytes(tiff(*[(4, 1)] * 50))
    assert count_pages(stack) == 50
    place.write_bytes(tiff(*[(4, 1)] * 51))
    with pytest.raises(UnreadablePicture, match="more than 50 pages"):
        count_pages(stack)


def test_no_other_program_is_run_by_a_picture(tmp_path, monkeypatch):
    # Pillow has Ghostscript draw EPS.
    trace, program = tmp_path / "trace", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(UnreadablePicture, match="in no format that can be read"):
        plain_picture(EPS)
    assert not trace.exists()
    with pytest.raises(OSError):
        Image.open(io.BytesIO(EPS)).load()
    assert trace.exists()  # it would have


def test_preparing_names_the_file_and_takes_the_others(tmp_path):
    source = tmp_path / "source"
    write_label_maps(source, [f"p{i:02d}" for i in range(14)])
    (source / "images" / "p03.png").write_bytes(png(HUGE, HUGE))
    (source / "labels" / "p05.png").write_bytes(png(HUGE, HUGE))
    (source / "images" / "p07.png").write_bytes(EPS)
    summary = prepare(source, tmp_path / "out", rule=SplitRule(0.25, 0.25))
    assert sum(split["pictures"] for split in summary.splits.values()) == 11
    unreadable = summary.rejected["picture can't be read"]
    assert unreadable.count == 2
    assert "178956970 pixels" in unreadable.example or "no format" in unreadable.example
    assert "labels/p05.png" in summary.rejected["mask can't be read"].example
    with pytest.raises(InputError, match=r"(p03|p05|p07)\.png: .*can't be read: ") as caught:
        prepare(source, tmp_path / "strict", rule=SplitRule(0.25, 0.25), strict=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "strict").exists()


def test_files_and_archives_are_read_up_to_a_size(tmp_path, monkeypatch):
    source = tmp_path / "source"
    write_label_maps(source, [f"p{i:02d}" for i in range(14)])
    with (source / "images" / "p03.png").open("ab") as file:
        file.truncate(200_000)
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for name in ("a/1.png", "b/1.png"):
            made.write(source / "images" / "p01.png", name)
        made.writestr("b/2.png", bytes(2_000_000))
    assert archive.stat().st_size < 100_000
    monkeypatch.setattr(storage, "MOST_BYTES", 100_000)
    summary = prepare(source, tmp_path / "out", rule=SplitRule(0.25, 0.25))
    rejected = summary.rejected["picture can't be read"]
    assert rejected.example == "images/p03.png: it has 200,000 bytes; at most 100,000 are read"
    images = class_folders(archive)["all"]
    assert images.read(0).ndim == 3
    with pytest.raises(InputError, match=r"a\.zip/b/2\.png .* 2,000,000 bytes; at most 100,000"):
        images.read(2)


@pytest.mark.parametrize("flag", [0x1, 0x20])
def test_archives_that_can_t_be_unpacked_are_one_line(tmp_path, flag):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("a/1.png", "b/1.png"):
            made.writestr(name, png(4, 4))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= flag  # encrypted, or a patch of another file
    content[6] |= flag
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip/a/1\.png can't be unpacked: ") as caught:
        class_folders(archive)["all"].read(0)
    assert "\n" not in str(caught.value)
    assert Path(tmp_path).is_dir()
