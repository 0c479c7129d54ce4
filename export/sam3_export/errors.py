"""The error of a failed export; `sam3-export` prints its message and exits with code 1."""


class ExportError(Exception):
    """An export failed. The message is one line that names the file and the problem."""
