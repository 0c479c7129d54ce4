"""The client's exceptions.

Sam3Error
├── InvalidInputError (ValueError)        the image or the prompt is invalid; the message names the fault
├── ImageNotCachedError (LookupError)     an id was sent without its image, and the server does not know the id
├── ServerUnavailableError                no server, not ready, or too busy: try again later
│   └── NoServerError                     the connection failed or broke, or the server is starting, stopping or broken
├── ConceptsNotServedError                the server's model was exported without concept prompts
├── DeadlineExceededError (TimeoutError)  no answer within the timeout
├── SupersededError                       a later click replaced this one
├── PredictionError                       the server failed on a valid request
├── InvalidUrlError (ValueError)          the address is not one of a Triton server
├── ClosedClientError (RuntimeError)      the client was closed
└── MissingExtraError (ImportError)       an optional dependency is not installed; the message says how to install it
"""

from __future__ import annotations


class Sam3Error(Exception):
    """The base class of this package's errors."""


class InvalidInputError(Sam3Error, ValueError):
    """The image or the prompt is invalid; the message names the fault."""


class ImageNotCachedError(Sam3Error, LookupError):
    """An image's id was sent without the image, and the server does not have the image, or no longer has it."""


class ServerUnavailableError(Sam3Error):
    """The server cannot be reached, is not ready, or is too busy. Try again later."""


class NoServerError(ServerUnavailableError):
    """The connection failed or broke, or the server is starting, stopping or broken. The client has already retried."""


class ConceptsNotServedError(Sam3Error):
    """The server's model was exported without concept prompts; the message says how to export them."""


class DeadlineExceededError(Sam3Error, TimeoutError):
    """No answer came within the client's timeout."""


class SupersededError(Sam3Error):
    """A later click replaced this one, so its answer no longer matters."""


class PredictionError(Sam3Error):
    """The server failed on a valid request."""


class InvalidUrlError(Sam3Error, ValueError):
    """The address is not a valid address of a Triton server."""


class ClosedClientError(Sam3Error, RuntimeError):
    """A method was called on a client that was closed."""


class MissingExtraError(Sam3Error, ImportError):
    """An optional dependency is not installed; the message says how to install it."""
