import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from reading import noise

from trainables.data.decode import (
    PlainPicture,
    count_pages,
    pixel_values,
    plain,
    plain_picture,
    read_page,
    to_rgb,
)
from trainables.data.opening import UnreadablePicture
from trainables.data.storage import Location

HEIGHT, WIDTH = 5, 8
COLOURS = noise(HEIGHT, WIDTH, 3)
GREYS = noise(HEIGHT, WIDTH)


def encoded(picture, format="png", **options):
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def decoded(plain_one: PlainPicture):
    picture = Image.open(io.BytesIO(plain_one.image))
    assert picture.mode in ("L", "RGB")
    assert picture.getexif().get(274, 1) == 1
    assert "transparency" not in picture.info
    assert (picture.height, picture.width) == plain_one.size
    return np.asarray(picture)


@pytest.mark.parametrize("pixels", [COLOURS, GREYS])
@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_what_is_plain_goes_through_untouched(pixels, format):
    content = encoded(Image.fromarray(pixels), format)
    assert plain_picture(content) == PlainPicture(content, HEIGHT, WIDTH)
    exif = Image.Exif()
    exif[0x0112] = 1
    content = encoded(Image.fromarray(pixels), format, exif=exif)
    assert plain_picture(content).image == content


@pytest.mark.parametrize("format", ["bmp", "tiff", "webp"])
def test_other_formats_become_png_of_the_same_pixels(format):
    options = {"lossless": True} if format == "webp" else {}
    content = encoded(Image.fromarray(COLOURS), format, **options)
    found = plain_picture(content)
    assert np.array_equal(decoded(found), COLOURS)
    assert found.image.startswith(b"\x89PNG")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_every_orientation_is_made_upright(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(COLOURS), format, exif=exif)
    upright = {
        1: COLOURS,
        2: COLOURS[:, ::-1],
        3: COLOURS[::-1, ::-1],
        4: COLOURS[::-1],
        5: COLOURS.transpose(1, 0, 2),
        6: np.rot90(COLOURS, -1),
        7: np.rot90(COLOURS, 2).transpose(1, 0, 2),
        8: np.rot90(COLOURS),
    }
    found = plain_picture(content)
    assert np.array_equal(decoded(found), upright[orientation])
    assert found.size == upright[orientation].shape[:2]


def test_a_jpeg_is_turned_as_cameras_mean_it():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(COLOURS), "jpeg", exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(decoded(plain_picture(content)), np.rot90(stored, -1))


@pytest.mark.parametrize("orientation", range(5, 9))
def test_annotations_on_stored_pixels_keep_a_turned_picture_as_it_is_stored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(COLOURS), exif=exif)
    assert np.array_equal(decoded(plain_picture(content, (HEIGHT, WIDTH))), COLOURS)
    for size in ((WIDTH, HEIGHT), (3, 3), None):
        assert plain_picture(content, size).size == (WIDTH, HEIGHT)


def test_what_looks_the_same_both_ways_is_made_upright():
    exif = Image.Exif()
    exif[0x0112] = 3
    content = encoded(Image.fromarray(COLOURS), exif=exif)
    found = plain_picture(content, (HEIGHT, WIDTH))
    assert np.array_equal(decoded(found), COLOURS[::-1, ::-1])


def test_an_orientation_that_does_not_exist_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 9
    content = encoded(Image.fromarray(COLOURS), exif=exif)
    assert plain_picture(content).image == content


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("brightest", [300, 4095, 65535])
def test_deep_grey_is_scaled_to_its_brightest_pixel(dtype, brightest):
    values = np.linspace(0, brightest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)
    content = encoded(Image.fromarray(values), "tiff")
    expected = np.floor(values.astype(np.float64) * (255 / brightest) + 1e-9)
    found = decoded(plain_picture(content))
    assert found.max() == 255
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.9


def test_deep_png_keeps_its_contrast():
    values = np.array([[0, 1000, 2000, 4000]], dtype=np.uint16)
    found = decoded(plain_picture(encoded(Image.fromarray(values))))
    assert found.tolist() == [[0, 63, 127, 255]]


def test_a_deep_colour_png_is_written_anew(tmp_path):
    import struct
    import zlib

    def chunk(name, body):
        check = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)

    values = np.array([[[0, 256, 65535], [4096, 32768, 512]]], dtype=">u2")
    content = b"\x89PNG\r\n\x1a\n"
    content += chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(b"\0" + values.tobytes())) + chunk(b"IEND", b"")
    found = plain_picture(content)
    assert found.image[24] == 8
    assert np.array_equal(decoded(found), (values >> 8).astype(np.uint8))


def test_values_below_zero_and_none_are_black():
    values = np.array([[-5.0, np.nan, np.inf, 2.0]], dtype=np.float32)
    found = decoded(plain_picture(encoded(Image.fromarray(values), "tiff")))
    assert found.tolist() == [[0, 0, 0, 255]]


def test_a_black_deep_picture_stays_black():
    values = np.zeros((2, 3), dtype=np.uint16)
    assert not decoded(plain_picture(encoded(Image.fromarray(values)))).any()


@pytest.mark.parametrize(("pixels", "mode"), [(COLOURS, "RGBA"), (GREYS, "LA")])
def test_transparency_is_laid_over_white(pixels, mode):
    alpha = noise(HEIGHT, WIDTH, seed=1)
    alpha[0], alpha[1] = 0, 255
    values = np.dstack([pixels, alpha])
    picture = Image.fromarray(values)
    assert picture.mode == mode
    found = decoded(plain_picture(encoded(picture))).astype(float)
    assert found.shape == pixels.shape
    share = (alpha / 255).reshape(HEIGHT, WIDTH, *[1] * (pixels.ndim - 2))
    assert np.abs(found - (pixels * share + 255 * (1 - share))).max() <= 1
    assert (found[0] == 255).all()
    assert np.array_equal(found[1], pixels[1])


@pytest.mark.parametrize("kind", ["palette", "L", "RGB"])
def test_a_transparent_colour_is_white(kind):
    if kind == "palette":
        picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
        picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        content = encoded(picture, transparency=1)
        expected = [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    elif kind == "L":
        content = encoded(Image.fromarray(np.array([[0, 7, 9]], np.uint8)), transparency=7)
        expected = [[0, 255, 9]]
    else:
        pixels = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)
        content = encoded(Image.fromarray(pixels), transparency=(4, 5, 6))
        expected = [[[1, 2, 3], [255, 255, 255]]]
    assert decoded(plain_picture(content)).tolist() == expected


def test_a_palette_becomes_its_colours():
    picture = Image.fromarray(np.array([[0, 1], [1, 2]], dtype=np.uint8), mode="P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = decoded(plain_picture(encoded(picture)))
    assert found.tolist() == [[[10, 20, 30], [40, 50, 60]], [[40, 50, 60], [70, 80, 90]]]


def test_cmyk_becomes_rgb():
    plate = np.zeros((16, 16, 4), dtype=np.uint8)
    plate[:, :8] = (0, 255, 255, 0)  # no cyan: red
    plate[:, 8:] = (0, 0, 0, 255)  # black
    content = encoded(Image.fromarray(plate, mode="CMYK"), "jpeg", quality=100)
    found = decoded(plain_picture(content)).astype(int)
    assert np.abs(found[:, :7] - (255, 0, 0)).max() < 8
    assert found[:, 9:].max() < 8


def test_one_bit_becomes_black_and_white():
    bits = GREYS > 100
    found = decoded(plain_picture(encoded(Image.fromarray(bits))))
    assert np.array_equal(found, np.where(bits, 255, 0))


def test_of_several_frames_the_first_counts():
    frames = [Image.fromarray(noise(HEIGHT, WIDTH, 3, seed=i)) for i in range(3)]
    for format in ("tiff", "png"):
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert np.array_equal(decoded(plain_picture(content)), np.asarray(frames[0]))
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == 3


SAMPLES = [
    encoded(Image.fromarray(noise(40, 50, 3)), "png"),
    encoded(Image.fromarray(noise(40, 50, 3)), "jpeg"),
    encoded(Image.fromarray(noise(40, 50, 3)), "tiff"),
    encoded(Image.fromarray(noise(40, 50, 3)), "tiff", compression="tiff_lzw"),
    encoded(Image.fromarray(noise(40, 50)), "gif"),
    encoded(Image.fromarray(noise(40, 50)), "webp"),
]


@given(st.sampled_from(SAMPLES), st.floats(0, 0.9))
def test_what_is_cut_off_is_named(content, share):
    with pytest.raises(UnreadablePicture) as raised:
        plain_picture(content[: int(len(content) * share)])
    assert str(raised.value)
    assert "\n" not in str(raised.value)
    assert "0x" not in str(raised.value)


@given(st.sampled_from(SAMPLES), st.integers(0, 3000), st.binary(min_size=1, max_size=8))
def test_damage_is_named_or_does_no_harm(content, start, junk):
    damaged = content[:start] + junk + content[start + len(junk) :]
    try:
        found = plain_picture(damaged)
    except UnreadablePicture:
        return
    assert decoded(found).shape[:2] == found.size


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(content):
    with pytest.raises(UnreadablePicture, match=r"no format that can be read|broken|Trunc"):
        plain_picture(content)


def test_values_of_a_map_are_those_that_are_stored():
    palette = Image.fromarray(np.array([[0, 1], [1, 2]], dtype=np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])
    assert pixel_values(encoded(palette)).tolist() == [[0, 1], [1, 2]]
    deep = np.array([[0, 40_000]], dtype=np.uint16)
    assert pixel_values(encoded(Image.fromarray(deep))).tolist() == [[0, 40_000]]
    with pytest.raises(UnreadablePicture):
        pixel_values(encoded(palette)[:40])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_pages_are_read_in_any_order(tmp_path, compression):
    pages = [noise(HEIGHT, WIDTH, seed=i) for i in range(4)]
    first, *rest = (Image.fromarray(page) for page in pages)
    path = tmp_path / "stack.tif"
    first.save(path, save_all=True, append_images=rest, compression=compression)
    stack = Location.at(path)
    assert count_pages(stack) == 4
    for number in (2, 0, 3, 1):
        assert np.array_equal(np.asarray(read_page(stack, number)), pages[number])
    with pytest.raises(UnreadablePicture):
        read_page(stack, 4)


def test_deep_pages_become_plain(tmp_path):
    path = tmp_path / "stack.tif"
    Image.fromarray(np.array([[0, 500, 1000]], dtype=np.uint16)).save(path)
    assert np.asarray(plain(read_page(Location.at(path), 0))).tolist() == [[0, 127, 255]]


def test_rgb_of_grey_has_three_equal_channels():
    assert np.array_equal(to_rgb(Image.fromarray(GREYS)), np.dstack([GREYS] * 3))
    assert np.array_equal(to_rgb(Image.fromarray(COLOURS)), COLOURS)


def test_decoding_needs_no_torch():
    program = "import sys, trainables.data.readers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_expected_orientations_are_pillows():
    exif = Image.Exif()
    exif[0x0112] = 7
    content = encoded(Image.fromarray(COLOURS), exif=exif)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(turned, np.rot90(COLOURS, 2).transpose(1, 0, 2))
