"""Checks and cleans texts as Meta's tokenizer does. Independent of Triton."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

import ftfy

# Of the UTF-8. Only the first 32 tokens matter, but all of a text is cleaned, at 1 MB in a second.
MAX_BYTES = 65536
_WHITE_SPACE = "\t\n\v\f\r"


class TextError(ValueError):
    """An invalid text; the message names the problem."""


def cleaned(text: bytes) -> str:
    """Decodes and cleans a text: mends wrong encodings, resolves HTML entities, folds white space, lowers the case.

    Raises:
        TextError: the text is not UTF-8, too long, empty, or holds control characters.
    """
    if len(text) > MAX_BYTES:
        raise TextError(f"TEXT has {len(text)} bytes, but may have at most {MAX_BYTES}")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise TextError(f"TEXT is not UTF-8 (byte {error.start})") from error
    # ftfy would silently remove those below U+0020. From U+0080 on they are signs of a wrong encoding, which it mends.
    _refuse(character for character in decoded if (character < " " or character == "\x7f"))
    mended = html.unescape(html.unescape(ftfy.fix_text(decoded))).strip()
    result = re.sub(r"\s+", " ", mended).strip().lower()
    if not result:
        raise TextError("TEXT is empty")
    _refuse(character for character in result if unicodedata.category(character) == "Cc")
    return result


def _refuse(control_characters: Iterable[str]) -> None:
    for character in control_characters:
        if character not in _WHITE_SPACE:
            raise TextError(f"TEXT holds the control character U+{ord(character):04X}")
