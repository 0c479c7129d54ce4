"""What a check has found."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import Enum

_SUBJECT_WIDTH = 14


class Mark(Enum):
    """How bad it is; the value is the colour of a terminal."""

    OK = "32"
    WARNING = "33"
    FAULT = "31"
    SKIPPED = "2"  # the check could not be made


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        subject: what was checked.
        text: what was found.
        advice: what to do about it; empty where there is nothing to do.
    """

    mark: Mark
    subject: str
    text: str
    advice: str = ""

    def line(self, coloured: bool) -> str:
        """As it is printed."""
        mark = f"{self.mark.name.lower():<8}"
        if coloured:
            mark = f"\033[{self.mark.value}m{mark}\033[0m"
        text = " ".join(self.text.split())  # Triton's reasons may have several lines
        return f"{mark} {self.subject:<{_SUBJECT_WIDTH}} {text}" + (f" -> {self.advice}" if self.advice else "")


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(Mark.OK, subject, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """It works, but not as well as it could, or not for long."""
    return Finding(Mark.WARNING, subject, text, advice)


def fault(subject: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(Mark.FAULT, subject, text, advice)


def skipped(subject: str, reason: str) -> Finding:
    """The check could not be made, so nobody knows."""
    return Finding(Mark.SKIPPED, subject, f"not checked: {reason}")


def is_coloured() -> bool:
    """Whether standard output is a terminal whose user wants colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
