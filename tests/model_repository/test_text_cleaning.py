from __future__ import annotations

import pytest
from text_cleaning import MAX_BYTES, TextError, cleaned


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("A red\tcoffee\n  cup ", "a red coffee cup"),
        ("l\u2019humain", "l'humain"),  # as ftfy straightens quotes
        ("cafÃ© façade", "café façade"),  # UTF-8 that was read as Latin-1
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("&lt;b&gt;", "<b>"),
        ("<b> salt &amp;amp; pepper", "<b> salt & pepper"),  # where ftfy leaves entities alone
        ("\u00a0cat\u3000dog", "cat dog"),
        ("\x0bcat\x0c", "cat"),
        ("\uff23\uff21\uff34", "cat"),
        ("日本語", "日本語"),
    ],
)
def test_texts_are_cleaned_as_metas_tokenizer_does(text: str, result: str) -> None:
    assert cleaned(text.encode()) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "TEXT is empty"),
        (b" \t\r\n", "TEXT is empty"),
        ("\u00a0\u3000".encode(), "TEXT is empty"),
        (b"&nbsp;", "TEXT is empty"),
        (b"a \xff cat", "TEXT is not UTF-8 (byte 2)"),
        (b"a\x00cat", "TEXT holds the control character U+0000"),
        (b"\x1b[31mcat", "TEXT holds the control character U+001B"),
        (b"cat\x1f", "TEXT holds the control character U+001F"),
        (b"cat\x7f", "TEXT holds the control character U+007F"),
        ("cat\x90".encode(), "TEXT holds the control character U+0090"),
        (b"x" * (MAX_BYTES + 1), "TEXT has 65537 bytes, but may have at most 65536"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(text: bytes, message: str) -> None:
    with pytest.raises(TextError) as caught:
        cleaned(text)
    assert str(caught.value) == message


def test_a_long_text_is_fine() -> None:
    assert len(cleaned(b"Word " * 2000)) == 9999
