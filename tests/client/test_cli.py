from __future__ import annotations

import pytest
from sam3_triton.cli import _parser


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
        (["--label", "0"], "--label belongs behind the --point"),
        (["--point", "1"], "expected X,Y, not '1'"),
        (["--point", "a,b"], "expected X,Y, not 'a,b'"),
        (["--box", "1,2,3"], "expected X1,Y1,X2,Y2, not '1,2,3'"),
        (["--point", "1,2", "--label", "2"], "invalid choice: 2"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*arguments)
    assert fault in capsys.readouterr().err
