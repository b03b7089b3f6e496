"""What can go wrong with a call to another machine, in one tree.

.. code-block:: text

    HttpError                        no usable answer came
    |-- RequestRefused               the request, or where it would have gone, is not allowed
    |-- ConnectionFailed             the name, the connection or the conversation broke
    |-- RequestTimedOut              the answer was not complete in time
    |-- ResponseTooLarge             the answer is larger than is allowed
    |-- InvalidResponse              the answer cannot be read as what it says it is
    `-- UnexpectedStatus             an answer that says: not now (429, 5xx)

They are raised by tasks, so they are recorded and shown. No message therefore holds what may
be a secret: of a URL only the origin is told, of headers and bodies nothing, and the errors of
the libraries below are not chained, because they quote what they were given.
"""


class HttpError(Exception):
    """A request brought no usable answer."""


class RequestRefused(HttpError):
    """The request is not allowed, or what it would have connected to; nothing was sent there."""


class ConnectionFailed(HttpError):
    """The name could not be resolved, or the connection could not be made or broke off."""


class RequestTimedOut(HttpError):
    """The answer was not complete within the time limit."""


class ResponseTooLarge(HttpError):
    """The answer is larger than ``http_max_response_bytes``; its rest was not read."""


class InvalidResponse(HttpError):
    """The answer is not what its headers, or the task, say it is."""


class UnexpectedStatus(HttpError):
    """The server cannot answer now; asking again may help."""
