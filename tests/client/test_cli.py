from __future__ import annotations

from pathlib import Path

import pytest
from sam3_triton.cli import _parser, main
from sam3_triton.cli.find import _names


def parse(*arguments: str) -> list[list[float]]:
    return _parser().parse_args(["predict", "photo.png", *arguments]).points


def test_a_label_belongs_to_the_point_before_it() -> None:
    assert parse("--point", "1,2", "--point", "3,4.5", "--label", "0", "--point", "5,6") == [
        [1, 2, 1],
        [3, 4.5, 0],
        [5, 6, 1],
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--label", "0"], "--label must follow the --point"),
        (["--point", "1"], "expected X,Y, not '1'"),
        (["--point", "a,b"], "expected X,Y, not 'a,b'"),
        (["--box", "1,2,3"], "expected X1,Y1,X2,Y2, not '1,2,3'"),
        (["--point", "1,2", "--label", "2"], "invalid choice: 2"),
    ],
)
def test_wrong_arguments_are_reported(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*arguments)
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["-o", "mask.jpg"], "masks are PNG files"),
        (["--overlay", "picture.xyz"], "unknown image format"),
        (["--overlay", "picture"], "unknown image format"),
        (["-o", "photo.png"], "-o photo.png would overwrite the photo"),
        (["--overlay", "./photo.png"], "--overlay photo.png would overwrite the photo"),
        (["--overlay", "mask.png"], "--overlay mask.png would overwrite the mask"),
        (["--box", "1,2,3,4", "--box", "5,6,7,8"], "--point works with one --box at most"),
    ],
)
def test_output_paths_are_checked_first(
    arguments: list[str],
    fault: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"a photo")
    assert main(["predict", "photo.png", "--point", "1,2", *arguments]) == 1
    assert fault in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [photo]
    assert photo.read_bytes() == b"a photo"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("sam3 0.1.0")


def test_boxes_keep_their_order_and_labels() -> None:
    boxes = ["--box", "1,2,3,4", "--not-box", "5,6,7,8", "--box", "0,0,9,9"]
    options = _parser().parse_args(["find", "photo.png", "red car", "cup", *boxes])
    assert options.texts == ["red car", "cup"]
    assert options.boxes == [([1, 2, 3, 4], 1), ([5, 6, 7, 8], 0), ([0, 0, 9, 9], 1)]
    assert _parser().parse_args(["find", "photo.png", "cup"]).boxes == []


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "no prompt: give a text or boxes"),
        ([" "], "the text is empty"),
        (["cup", "--threshold", "1.5"], "threshold must be from 0 to 1"),
        (["cup", "--nms-iou", "0"], "nms_iou must be above 0"),
        (["cup", "--box", "3,2,1,4"], "a box must be x0, y0, x1, y1"),
    ],
)
def test_a_concept_is_checked_first(
    arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "found"
    assert main(["find", str(tmp_path / "photo.png"), *arguments, "-o", str(out)]) == 1
    assert fault in capsys.readouterr().err
    assert not out.exists()


def test_each_text_has_names_of_its_own() -> None:
    texts = ["Red car!", "red  car", "red car 2", "Tasse für Kaffee", "杯子", "!?", "x" * 100]
    names = _names(texts)
    assert names == ["red-car", "red-car-2", "red-car-2-2", "tasse-für-kaffee", "杯子", "text", "x" * 40]
    assert _names(["cup 2", "cup", "cup", "cup"]) == ["cup-2", "cup", "cup-3", "cup-4"]
