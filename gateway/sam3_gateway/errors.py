"""Errors at the gateway's start. Errors of requests are in `sam3_triton.errors`."""


class GatewayError(Exception):
    """The gateway cannot start. The message is one line that names the fault."""
