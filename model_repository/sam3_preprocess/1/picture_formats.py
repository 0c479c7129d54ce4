"""The picture formats that Triton decodes. Independent of Triton."""

from __future__ import annotations

from PIL import Image

try:
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener(thumbnails=False)

HEIF = "HEIF"
Image.init()
# Every format that Pillow reads, by Pillow's name for it.
ANY = tuple(dict.fromkeys((*Image.ID, HEIF)))
# Brands of files with HEVC pictures, which phones write as .heic.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


def parse(text: str) -> tuple[str, ...]:
    """Reads a list of formats: Pillow's names, or HEIF, separated by commas.

    Raises:
        ValueError: a name is unknown, or there is none.
    """
    names = tuple(name.strip().upper() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("picture_formats is empty; name at least one format, for example PNG")
    for name in names:
        if name not in ANY:
            raise ValueError(f"picture_formats: unknown format {name!r}; the formats are {', '.join(sorted(ANY))}")
    return names


def readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the formats without HEIF, if the package that reads it is not installed."""
    return tuple(name for name in formats if name in Image.OPEN)


def lacks_heif(encoded: bytes, formats: tuple[str, ...]) -> bool:
    """Whether a file is HEIC, which is accepted, but the package that reads it is not installed."""
    is_heic = encoded[4:8] == b"ftyp" and any(brand in encoded[8:64] for brand in _HEIC_BRANDS)
    return is_heic and HEIF in formats and HEIF not in Image.OPEN
