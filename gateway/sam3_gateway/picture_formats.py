"""The picture formats that the gateway accepts."""

from __future__ import annotations

from PIL import Image

try:
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener(thumbnails=False)

Image.init()
HEIF = "HEIF"
# What docs/pictures.md says of each; Triton has the same list in the config of sam3_preprocess.
DEFAULT = "PNG,JPEG,WEBP,AVIF,GIF,BMP,TIFF,JPEG2000,PPM,HEIF"
# Brands of files with HEVC pictures, which phones write as .heic.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


def parse(text: str) -> tuple[str, ...]:
    """Reads a list of formats: Pillow's names, or HEIF, separated by commas.

    Raises:
        ValueError: a name is unknown, or there is none.
    """
    names = tuple(name.strip().upper() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("name at least one format")
    known = sorted({*Image.OPEN, HEIF})
    for name in names:
        if name not in known:
            raise ValueError(f"unknown format {name!r}; choose from {', '.join(known)}")
    return names


def readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the formats without HEIF, if the extra `heic` is not installed."""
    return tuple(name for name in formats if name in Image.OPEN)


def lacks_extra(data: bytes, formats: tuple[str, ...]) -> bool:
    """Whether a file is HEIC, which is accepted, but the extra `heic` is not installed."""
    is_heic = data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in _HEIC_BRANDS)
    return is_heic and HEIF in formats and HEIF not in Image.OPEN
