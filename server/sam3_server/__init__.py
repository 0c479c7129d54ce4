"""Runs a local Triton over this project's model repository."""

from sam3_server.errors import ServerError
from sam3_server.launcher import Ports, TritonServer

__all__ = ["Ports", "ServerError", "TritonServer"]
