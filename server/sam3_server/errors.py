"""The error of this package."""


class ServerError(Exception):
    """The server cannot start or keep running. The message is one line that names the fault."""
