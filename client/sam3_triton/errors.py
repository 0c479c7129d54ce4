"""What the client raises.

Sam3Error
├── InvalidInputError (ValueError)    the image or the prompt makes no sense
├── ImageNotCachedError (LookupError) an id was sent alone, and the server does not know it
├── ServerUnavailableError            no server, not ready, or too busy: try again later
├── DeadlineExceededError (TimeoutError)
├── SupersededError                   a later click has taken this one's place
└── PredictionError                   the server failed
"""

from __future__ import annotations


class Sam3Error(Exception):
    """The root of this package's errors."""


class InvalidInputError(Sam3Error, ValueError):
    """The image or the prompt makes no sense; the text names the fault."""


class ImageNotCachedError(Sam3Error, LookupError):
    """An image's id was sent without the image, and the server does not have it (any more)."""


class ServerUnavailableError(Sam3Error):
    """There is no server, its models are not loaded, or it is too busy."""


class DeadlineExceededError(Sam3Error, TimeoutError):
    """No answer within the client's timeout."""


class SupersededError(Sam3Error):
    """A later click has taken this one's place; its answer does not matter any more."""


class PredictionError(Sam3Error):
    """The server failed on a request that was in order."""
