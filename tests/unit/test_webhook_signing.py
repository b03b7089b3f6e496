"""Signatures of webhooks, held against the words of the standard and not against our code."""

import base64
import hashlib
import hmac

import pytest

from shared.webhook_signing import signed_headers, signing_keys

# An example that the specification gives (Standard Webhooks, "Verifying webhook authenticity").
SECRET = "whsec_plJ3nmyCDGBKInavdOK15jsl"
EVENT_ID = "msg_loFOjxBNrRLzqYUf"
TIMESTAMP = 1_731_705_121
BODY = b'{"event_type":"ping","data":{"success":true}}'
SIGNATURE = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_the_example_of_the_standard_is_signed_as_it_says() -> None:
    headers = signed_headers(signing_keys(SECRET), EVENT_ID, TIMESTAMP, BODY)
    assert headers == {
        "webhook-id": EVENT_ID,
        "webhook-timestamp": str(TIMESTAMP),
        "webhook-signature": SIGNATURE,
    }


def test_each_key_signs_while_a_secret_is_changed() -> None:
    old, new = b"an-old-key-of-bytes", b"n" * 24
    secret = f"{old.decode()} whsec_{base64.b64encode(new).decode()}"
    headers = signed_headers(signing_keys(secret), "id", 1, b"{}")
    expected = [hmac.new(key, b"id.1.{}", hashlib.sha256).digest() for key in (old, new)]
    told = [
        base64.b64decode(one.removeprefix("v1,")) for one in headers["webhook-signature"].split()
    ]
    assert told == expected


@pytest.mark.parametrize("secret", ["", "  ", "short", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!"])
def test_what_is_no_key_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="key"):
        signing_keys(secret)
