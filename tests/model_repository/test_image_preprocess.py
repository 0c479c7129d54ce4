from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import golden
import image_preprocess
import numpy as np
import pytest
from image_preprocess import ImageError, decode, to_network_pixels
from pictures import HEIC, TURNED_HEIC, encoded, oversized
from PIL import Image
from sam3_gateway import picture_formats

FORMATS = picture_formats.parse(picture_formats.DEFAULT)


@pytest.mark.parametrize("photo", ["coffee", "rocket", "chelsea_tall"])
def test_pixels_are_those_of_metas_predictor(photo: str) -> None:
    with np.load(golden.FOLDER / "reference.npz") as reference:
        expected = reference[f"{photo}/pixels"]  # normalised, [3, 42, 42], every 8th pixel
    pixels = to_network_pixels(decode((golden.FOLDER / f"{photo}.png").read_bytes()), 336)
    assert pixels.shape == (1, 336, 336, 3)
    assert pixels.dtype == np.uint8
    normalised = (pixels[0, ::8, ::8].transpose(2, 0, 1) / 255 - 0.5) / 0.5
    grey_levels = np.abs(normalised - expected) * 127.5
    assert grey_levels.max() <= 1.01
    # With the axes in the other order, one value in eight differs.
    assert (grey_levels > 0.5).mean() <= 0.01


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn it by 90 degrees
    assert decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).shape == (4, 8, 3)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "0 bytes"),
        (b"points=[[1, 2]]", "its 15 bytes are none of PNG, JPEG, "),
        (encoded(Image.new("RGB", (9, 9)), "TGA"), "none of PNG, JPEG, "),
        (encoded(Image.effect_noise((64, 64), 50))[:-500], "damaged or truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:500], "damaged or truncated"),
    ],
    ids=["empty", "text", "another format", "truncated PNG", "truncated JPEG"],
)
def test_an_unreadable_image_is_reported(data: bytes, fault: str) -> None:
    with pytest.raises(ImageError, match=fault):
        decode(data, FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_decompression_bomb_is_refused(kind: str) -> None:
    with pytest.raises(ImageError, match="it has too many pixels .* exceeds limit of 178956970"):
        decode(oversized(kind), FORMATS)


def test_a_heic_is_upright_and_otherwise_as_stored() -> None:
    upright, turned = decode(HEIC.read_bytes(), FORMATS), decode(TURNED_HEIC.read_bytes(), FORMATS)
    assert (upright.shape, turned.shape) == ((100, 150, 3), (150, 100, 3))
    # irot turned it by 90 degrees clockwise; the pixels differ by the rounding of chroma.
    back = np.rot90(turned.astype(int))
    assert np.abs(back - upright).mean() < 3


def test_a_heic_with_an_item_of_a_damaged_type_does_not_end_the_process() -> None:
    data = TURNED_HEIC.read_bytes()
    item = data.index(b"Exif", data.index(b"infe"))
    assert decode(data[:item] + b"E\xf8if" + data[item + 4 :], FORMATS).shape == (150, 100, 3)  # pi-heif 1.4.0 crashes


def test_only_the_first_picture_of_a_file_is_read() -> None:
    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    for kind in ("TIFF", "GIF", "WEBP", "AVIF", "PNG", "MPO"):
        image = decode(encoded(pages[0], kind, save_all=True, append_images=pages[1:]), FORMATS)
        assert np.abs(image.astype(int) - (255, 0, 0)).max() < 8, kind


def tiff_with_a_tile(side: int) -> bytes:
    """A grey picture of 16 x 16 pixels in one tile that is much larger."""
    compressor = zlib.compressobj(1)
    tile = b"".join([*(compressor.compress(bytes(side)) for _ in range(side)), compressor.flush()])
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(tile)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(tile)) + tile + struct.pack("<H", len(tags)) + entries + bytes(4)


def jpeg2000_of_code_blocks(side: int) -> bytes:
    """Fewer than 200 bytes that declare a picture in code blocks of 4 x 4 pixels, without data."""
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "JPEG2000", no_jp2=True, codeblock_size=(4, 4)))
    for offset in (6, 22):  # the sizes of picture and tile
        struct.pack_into(">II", data, data.index(b"\xff\x51") + offset, side, side)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "pixels"),
    [(tiff_with_a_tile(44_000), 16 * 16), (jpeg2000_of_code_blocks(8_000), 8_000 * 8_000)],
    ids=["TIFF", "JPEG 2000"],
)
def test_decoding_allocates_no_more_than_a_sound_picture_needs(data: bytes, pixels: int, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(data)
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(Path(image_preprocess.__file__).parent)!r})
        from image_preprocess import ImageError, decode
        try:
            decode(open({str(tmp_path / "picture")!r}, "rb").read())
        except ImageError as error:
            print(error)
        # Not ru_maxrss, which begins with the memory of the process that started this one.
        (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
        print(1024 * int(line.split()[1]))
    """
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    fault, peak = output.splitlines()
    assert fault.startswith("invalid image: it is damaged")
    assert int(peak) < (1 << 30) + 40 * pixels
