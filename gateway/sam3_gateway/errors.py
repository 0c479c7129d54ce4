"""Why the gateway cannot start. What a request can fail with is in `sam3_triton.errors`."""


class GatewayError(Exception):
    """The gateway cannot start. Its text is one line that names the fault."""
