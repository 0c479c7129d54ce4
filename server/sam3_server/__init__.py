"""Runs a local Triton with this project's model repository."""

from sam3_server.errors import ServerError
from sam3_server.launcher import TritonServer
from sam3_server.ports import Ports

__all__ = ["Ports", "ServerError", "TritonServer"]
