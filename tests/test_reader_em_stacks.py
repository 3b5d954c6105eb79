import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reading import elsewhere, mask_of, noise, pixels_of, read_all, real_data, reasons, save

from trainables.data.reader import ReadOptions, object_id
from trainables.data.readers import em_stacks, find_reader
from trainables.data.readers.tiles import tiles
from trainables.data.storage import Location

# Three objects: two that touch at a corner are one, so is the one of a single pixel.
MASK = np.zeros((12, 17), dtype=np.uint8)
MASK[1:3, 1:4] = MASK[3:5, 4:7] = 255
MASK[8, 15] = 255
MASK[6:11, 0:3] = 255
FIRST, SECOND, THIRD = (np.zeros(MASK.shape, dtype=bool) for _ in range(3))
FIRST[1:3, 1:4] = FIRST[3:5, 4:7] = True
SECOND[6:11, 0:3] = True
THIRD[8, 15] = True


def save_stack(path, pages, **options):
    first, *rest = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=rest, **options)


@pytest.fixture
def stacks(tmp_path):
    """As EPFL publishes them, but small."""
    for seed, name in enumerate(["training", "testing"]):
        pages = [noise(12, 17, seed=10 * seed + i) for i in range(3)]
        save_stack(tmp_path / f"{name}.tif", pages)
        save_stack(tmp_path / f"{name}_groundtruth.tif", [MASK, MASK[::-1], 0 * MASK])
    save_stack(tmp_path / "volumedata.tif", [noise(12, 17)] * 4)
    return tmp_path


@pytest.fixture
def folders(tmp_path):
    for i in range(2):
        Image.fromarray(noise(12, 17, seed=i)).save(save(tmp_path / "raw" / f"{i:02}.tif", MASK))
        save(tmp_path / "mitochondria" / f"{i:02}.png", MASK)
        save(tmp_path / "membranes" / f"{i:02}.png", 255 - MASK)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "00.txt").write_text("no picture")
    return tmp_path


def test_each_page_is_a_section(stacks):
    pictures, rejected = read_all(em_stacks, stacks)
    assert not rejected
    assert list(pictures) == [f"{n}/{i:04}" for n in ("testing", "training") for i in range(3)]
    for i in range(3):
        assert np.array_equal(pixels_of(pictures[f"training/{i:04}"]), noise(12, 17, seed=i))
    found = [mask_of(o) for o in pictures["training/0000"].objects]
    assert np.array_equal(found, [FIRST, SECOND, THIRD])
    flipped = {mask_of(o).tobytes() for o in pictures["training/0001"].objects}
    assert flipped == {mask[::-1].tobytes() for mask in (FIRST, SECOND, THIRD)}
    assert not pictures["training/0002"].objects
    ids = [o.id for o in pictures["training/0000"].objects]
    assert ids == [object_id("training/0000", f"mitochondria/{n}") for n in (1, 2, 3)]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_stacks_are_read_too(stacks, compression):
    pages = [noise(12, 17, seed=i) for i in range(3)]
    save_stack(stacks / "training.tif", pages, compression=compression)
    pictures, rejected = read_all(em_stacks, stacks)
    assert not rejected
    assert np.array_equal(pixels_of(pictures["training/0002"]), pages[2])


def test_deep_sections_are_scaled_and_cut_afterwards(stacks):
    deep = np.arange(12 * 17, dtype=np.uint16).reshape(12, 17) * 100
    save_stack(stacks / "training.tif", [deep] * 3)
    whole, _ = read_all(em_stacks, stacks)
    cut, _ = read_all(em_stacks, stacks, ReadOptions(tile=8))
    pixels = pixels_of(whole["training/0000"])
    assert pixels.max() == 255
    assert np.array_equal(pixels_of(cut["training/0000@0,8"]), pixels[:8, 8:16])


def test_folders_of_masks_are_categories(folders):
    pictures, rejected = read_all(em_stacks, folders)
    assert not rejected
    assert list(pictures) == ["00", "01"]
    for i, picture in enumerate(pictures.values()):
        assert np.array_equal(pixels_of(picture), noise(12, 17, seed=i))
        found = {
            c: [mask_of(o) for o in picture.objects if o.category == c]
            for c in ("membranes", "mitochondria")
        }
        assert np.array_equal(found["mitochondria"], [FIRST, SECOND, THIRD])
        assert np.array_equal(found["membranes"], [MASK == 0])


def test_only_what_is_asked_for_is_read(folders):
    (folders / "membranes" / "01.png").unlink()
    pictures, rejected = read_all(em_stacks, folders, ReadOptions(categories=("mitochondria",)))
    assert not rejected
    assert [len(p.objects) for p in pictures.values()] == [3, 3]
    pictures, rejected = read_all(em_stacks, folders, ReadOptions(categories=("nuclei",)))
    assert ([len(p.objects) for p in pictures.values()], rejected) == ([0, 0], [])


def test_tiles_hold_their_part_of_each_object(folders):
    options = ReadOptions(categories=("mitochondria",), tile=5, tile_overlap=2)
    pictures, _ = read_all(em_stacks, folders, options)
    corners = [(y, x) for y in (0, 3, 6, 7) for x in (0, 3, 6, 9, 12)]
    assert list(pictures) == [f"{s}@{y},{x}" for s in ("00", "01") for y, x in corners]
    pixels = noise(12, 17)
    for y, x in corners:
        tile = pictures[f"00@{y},{x}"]
        window = (slice(y, y + 5), slice(x, x + 5))
        assert np.array_equal(pixels_of(tile), pixels[window])
        expected = [m[window] for m in (FIRST, SECOND, THIRD) if m[window].any()]
        assert np.array_equal([mask_of(o) for o in tile.objects], expected) or not expected
        assert len(tile.objects) == len(expected)


def test_what_a_tile_cuts_in_two_stays_one_object(tmp_path):
    horseshoe = np.zeros((6, 6), np.uint8)
    horseshoe[0, :] = horseshoe[:4, 0] = horseshoe[:4, 5] = 1
    save(tmp_path / "raw" / "a.png", noise(6, 6))
    save(tmp_path / "cells" / "a.png", horseshoe)
    pictures, _ = read_all(em_stacks, tmp_path, ReadOptions(tile=4))
    assert {len(p.objects) for p in pictures.values()} == {1}
    assert [mask_of(p.objects[0]).sum() for p in pictures.values()] == [7, 7, 2, 2]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.data())
def test_tiles_cover_every_pixel_and_stay_inside(height, width, side, data):
    overlap = data.draw(st.integers(0, side - 1))
    seen = np.zeros((height, width), dtype=int)
    found = list(tiles(height, width, side, overlap))
    for tile in found:
        assert (tile.height, tile.width) == (min(side, height), min(side, width))
        assert seen[tile.window].shape == (tile.height, tile.width)
        seen[tile.window] += 1
    assert seen.min() == 1 or overlap
    assert seen.min() >= 1
    assert len(set(found)) == len(found)
    columns = sorted({tile.x for tile in found})
    assert all(b - a <= side - overlap for a, b in itertools.pairwise(columns))


def test_both_layouts_are_recognised(stacks):
    assert find_reader(Location.at(stacks)) is em_stacks


def test_folders_are_recognised(folders):
    assert find_reader(Location.at(folders)) is em_stacks


def no_groundtruth(folder):
    (folder / "testing_groundtruth.tif").unlink()
    return [("testing.tif", "picture without annotations")], 3


def no_stack(folder):
    (folder / "testing.tif").unlink()
    return [("testing_groundtruth.tif", "annotation without its picture")], 3


def lengths_differ(folder):
    save_stack(folder / "testing_groundtruth.tif", [MASK, MASK])
    return [("testing.tif", "stacks of different lengths")], 3


def no_tiff(folder):
    (folder / "testing.tif").write_bytes(b"no picture")
    return [("testing.tif", "picture can't be read")], 3


def one_page_of_another_size(folder):
    save_stack(folder / "testing_groundtruth.tif", [MASK, MASK[:5], MASK])
    return [("testing_groundtruth.tif", "mask of another size")], 5


def coloured_masks(folder):
    save_stack(folder / "testing_groundtruth.tif", [noise(12, 17, 3)] * 3)
    return [("testing_groundtruth.tif", "mask can't be read")] * 3, 3


@pytest.mark.parametrize(
    "damage",
    [no_groundtruth, no_stack, lengths_differ, no_tiff, one_page_of_another_size, coloured_masks],
)
def test_a_mistake_in_a_stack_is_named_and_the_rest_is_read(stacks, damage):
    expected, left = damage(stacks)
    pictures, rejected = read_all(em_stacks, stacks)
    assert reasons(rejected) == expected
    assert len(pictures) == left


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_stack_that_is_cut_off_is_named(stacks, compression):
    pages = [noise(60, 70, seed=i) for i in range(3)]
    save_stack(stacks / "testing.tif", pages, compression=compression)
    content = (stacks / "testing.tif").read_bytes()
    for length in range(0, len(content) - 8, len(content) // 7):
        (stacks / "testing.tif").write_bytes(content[:length])
        pictures, rejected = read_all(em_stacks, stacks)
        found = [name for name in pictures if name.startswith("training")]
        assert len(found) == 3
        assert rejected
        assert all(entry.file.startswith("testing") for entry in rejected)


def no_mask(folder):
    (folder / "mitochondria" / "00.png").unlink()
    return [("raw/00.tif", "picture without annotations")], 2


def no_mask_at_all(folder):
    (folder / "mitochondria" / "00.png").unlink()
    (folder / "membranes" / "00.png").unlink()
    return [("raw/00.tif", "picture without annotations")] * 2, 1


def no_section(folder):
    (folder / "raw" / "00.tif").unlink()
    kinds = ("membranes", "mitochondria")
    return [(f"{kind}/00.png", "annotation without its picture") for kind in kinds], 1


def two_sections(folder):
    save(folder / "raw" / "00.png", MASK)
    return [(f"raw/00.{kind}", "name given twice") for kind in ("png", "tif")], 1


def broken_section(folder):
    (folder / "raw" / "00.tif").write_bytes(b"no picture")
    return [("raw/00.tif", "picture can't be read")], 1


def broken_mask(folder):
    (folder / "mitochondria" / "00.png").write_bytes(b"no picture")
    return [("mitochondria/00.png", "mask can't be read")], 2


def small_masks(folder):
    save(folder / "membranes" / "00.png", MASK[:4])
    save(folder / "mitochondria" / "00.png", MASK[:4])
    kinds = ("membranes", "mitochondria")
    return [(f"{kind}/00.png", "mask of another size") for kind in kinds], 1


@pytest.mark.parametrize(
    "damage",
    [
        no_mask,
        no_mask_at_all,
        no_section,
        two_sections,
        broken_section,
        broken_mask,
        small_masks,
    ],
)
def test_a_mistake_in_a_folder_is_named_and_the_rest_is_read(folders, damage):
    expected, left = damage(folders)
    pictures, rejected = read_all(em_stacks, folders)
    assert sorted(reasons(rejected)) == sorted(expected)
    assert len(pictures) == left
    assert "01" in pictures


def test_real_sections():
    place = Location.at(real_data("vnc_em"))
    assert find_reader(place) is em_stacks
    found = list(em_stacks.items(place, ReadOptions()))
    assert [item.group for item in found] == [f"{i:02}" for i in range(20)]
    options = ReadOptions(categories=("mitochondria",), tile=512)
    cut = list(em_stacks.read(place, found[0], options))
    assert [picture.size for picture in (pixels_of(p) for p in cut)] == [512 * 512] * 4
    whole = np.asarray(Image.open(real_data("vnc_em") / "mitochondria" / "00.png")) != 0
    assert sum(mask_of(o).sum() for picture in cut for o in picture.objects) == whole.sum()


def test_any_file_system_will_do(stacks):
    assert read_all(em_stacks, elsewhere(stacks)) == read_all(em_stacks, stacks)


def test_any_file_system_will_do_for_folders(folders):
    assert read_all(em_stacks, elsewhere(folders)) == read_all(em_stacks, folders)
