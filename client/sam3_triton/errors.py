"""What the client raises.

Sam3Error
├── InvalidInputError (ValueError)      the image or the prompt makes no sense
├── ImageNotCachedError (LookupError)   an id was sent without the image, and the server does not know it
├── ServerUnavailableError              no server, not ready, or too busy: try again later
├── DeadlineExceededError (TimeoutError)
├── SupersededError                     a later click replaced this one
├── PredictionError                     the server failed
├── InvalidUrlError (ValueError)        the address is not one of a Triton
├── ClosedClientError (RuntimeError)    the client was closed
└── MissingExtraError (ImportError)     an optional dependency is not installed
"""

from __future__ import annotations


class Sam3Error(Exception):
    """The base class of this package's errors."""


class InvalidInputError(Sam3Error, ValueError):
    """The image or the prompt makes no sense; the message names the fault."""


class ImageNotCachedError(Sam3Error, LookupError):
    """An image's id was sent without the image, and the server does not have it (any more)."""


class ServerUnavailableError(Sam3Error):
    """There is no server, its models are not loaded, or it is too busy."""


class DeadlineExceededError(Sam3Error, TimeoutError):
    """No answer within the client's timeout."""


class SupersededError(Sam3Error):
    """A later click replaced this one, so its answer no longer matters."""


class PredictionError(Sam3Error):
    """The server failed on a valid request."""


class InvalidUrlError(Sam3Error, ValueError):
    """The address is not one at which a Triton can listen."""


class ClosedClientError(Sam3Error, RuntimeError):
    """A method was called on a client that was closed."""


class MissingExtraError(Sam3Error, ImportError):
    """An optional dependency is not installed; the message says how to install it."""
