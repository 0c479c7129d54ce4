"""What an export can fail with: one class, one line for the person, exit code 1."""


class ExportError(Exception):
    """An export that cannot go on. Its text is one line that names the file and the fault."""
