"""The signature of a webhook, in the manner of Standard Webhooks.

What is signed is ``id.timestamp.body``, with HMAC-SHA256. The time is in it, so that nobody
can send again later what was once heard.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

_PREFIX = "whsec_"
_MIN_BYTES = 16


def signing_keys(secret: str) -> Sequence[bytes]:
    """The keys in a secret: one, or several with blanks between them while it is changed.

    Raises:
        ValueError: a key is too short, or says that it is base64 and is not.
    """
    keys = [_key(text) for text in secret.split()]
    if not keys:
        raise ValueError("must hold a key")
    return keys


def _key(text: str) -> bytes:
    key = text.encode()
    if text.startswith(_PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"a key that begins with {_PREFIX} must go on in base64") from None
    if len(key) < _MIN_BYTES:
        raise ValueError(f"a key must have at least {_MIN_BYTES} bytes")
    return key


def signed_headers(
    keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes
) -> Mapping[str, str]:
    """The headers that let a receiver check who sent ``body``, and when."""
    content = f"{event_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(key, content)}" for key in keys),
    }


def _signature(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
