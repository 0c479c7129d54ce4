from __future__ import annotations

import pytest
from sam3_gateway.forms import parse_flag, parse_labels, parse_points
from sam3_triton import InvalidInputError


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("[[1, 2]]", [[1, 2]]),
        ("[[1.5, 2], [3, 4]]", [[1.5, 2], [3, 4]]),
        ("[1, 2]", [[1, 2]]),
        ("[1, 2, 3, 4]", [[1, 2], [3, 4]]),
        (str([[10, 20.5]]), [[10, 20.5]]),
    ],
)
def test_points(text: str, points: list) -> None:
    assert parse_points(text, 100) == points


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1, 2",
        "[",
        "{}",
        "3",
        "[]",
        "[1, 2, 3]",
        "[[1]]",
        "[[1, 2], 3]",
        '[["a", 2]]',
        "[[1, null]]",
        "[[[1, 2]]]",
        "[[true, 2]]",
        "[" * 100_000,
    ],
)
def test_malformed_points(text: str) -> None:
    with pytest.raises(InvalidInputError, match="point"):
        parse_points(text, 100)


@pytest.mark.parametrize(
    ("text", "labels"),
    [("[1, 0]", [1, 0]), ("1", [1]), ("0", [0]), (" [1] ", [1]), ("[true, false]", [1, 0]), ("true", [1])],
)
def test_labels(text: str, labels: list) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize("text", ["", "yes", "{}", '["1"]', "[[1]]", "null"])
def test_malformed_labels(text: str) -> None:
    with pytest.raises(InvalidInputError, match="labels must be"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("1", True),
        ("on", True),
        ("false", False),
        ("False", False),
        ("0", False),
        ("", False),
    ],
)
def test_flags(text: str, value: bool) -> None:
    assert parse_flag("multimask", text) is value


def test_a_malformed_flag() -> None:
    with pytest.raises(InvalidInputError, match="multimask must be true or false, not 'perhaps'"):
        parse_flag("multimask", "perhaps")
