"""What is asked next when an answer says that it is elsewhere.

A redirect is a new request that goes the whole way through the guard. What the caller gave
for one origin is not shown to another one: the server that answers decides where it leads.
"""

from worker.outbound.errors import RequestRefused
from worker.outbound.messages import OutboundRequest
from worker.outbound.urls import follow, origin_of

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_KEPT_ELSEWHERE = frozenset({"accept", "accept-language", "content-type", "user-agent"})
"""Headers that another origin may see. Any other may be a credential, whatever its name."""
_OF_THE_BODY = frozenset({"content-type", "content-language", "content-encoding"})


def redirect(request: OutboundRequest, status: int, location: str) -> OutboundRequest:
    """The request that an answer with this status and ``Location`` asks for.

    Raises:
        RequestRefused: it leads to no plain URL, or from https to http.
    """
    url = follow(request.url, location)
    if (request.url.scheme, url.scheme) == ("https", "http"):
        raise RequestRefused(
            f"{origin_of(request.url)} redirects to {origin_of(url)}, which is not encrypted"
        )
    method, body, headers = request.method, request.body, dict(request.headers)
    if _becomes_get(method, status):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name not in _OF_THE_BODY}
    if origin_of(url) != origin_of(request.url):
        headers = {name: value for name, value in headers.items() if name in _KEPT_ELSEWHERE}
    return OutboundRequest(method=method, url=url, headers=headers, body=body)


def _becomes_get(method: str, status: int) -> bool:
    """As every browser does it; 307 and 308 were made to keep the method."""
    return (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")
