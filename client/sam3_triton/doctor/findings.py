"""The result of a check."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import Enum

_SUBJECT_WIDTH = 14


class Mark(Enum):
    """Severity of a finding. The value is its ANSI colour."""

    OK = "32"
    WARNING = "33"
    FAULT = "31"
    SKIPPED = "2"  # the check could not run


@dataclass(frozen=True)
class Finding:
    """One line of the output.

    Attributes:
        subject: the thing that was checked.
        text: the result.
        advice: the suggested fix; empty if none is needed.
    """

    mark: Mark
    subject: str
    text: str
    advice: str = ""

    def line(self, coloured: bool) -> str:
        """Returns the line to print."""
        mark = f"{self.mark.name.lower():<8}"
        if coloured:
            mark = f"\033[{self.mark.value}m{mark}\033[0m"
        text = " ".join(self.text.split())  # Triton's messages may have several lines
        return f"{mark} {self.subject:<{_SUBJECT_WIDTH}} {text}" + (f" -> {self.advice}" if self.advice else "")


def ok(subject: str, text: str) -> Finding:
    """The check passed."""
    return Finding(Mark.OK, subject, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """It works, but slowly, or it may fail later."""
    return Finding(Mark.WARNING, subject, text, advice)


def fault(subject: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(Mark.FAULT, subject, text, advice)


def skipped(subject: str, reason: str) -> Finding:
    """The check could not run."""
    return Finding(Mark.SKIPPED, subject, f"not checked: {reason}")


def is_coloured() -> bool:
    """Whether standard output is a terminal whose user wants colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def megabytes(size: float) -> str:
    """Formats a number of bytes as MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
