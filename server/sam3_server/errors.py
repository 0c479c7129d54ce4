"""What a start can fail with."""


class ServerError(Exception):
    """The server cannot start or stay up. Its text is one line that names the fault."""
