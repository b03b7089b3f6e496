"""One strict reading of a URL.

Most ways round a guard use a text that two parsers read differently: the guard sees one host,
the client connects to another. So a URL has to fit a narrow grammar here, and is handed on
taken apart. What does not fit is refused, not repaired.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import urljoin, urlsplit

import httpx2

from worker.outbound.addresses import read_ipv4
from worker.outbound.errors import RequestRefused

MAX_URL_LENGTH = 8_000
"""Characters. Servers take about as much."""

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>[/?][^#]*|)(?:#.*)?", re.I)
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:%]+))(?::(?P<port>[0-9]+))?"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_MAX_NAME_LENGTH = 253


def read_url(text: str) -> httpx2.URL:
    """``text`` as a URL whose host is a name in ASCII or a plain address, without fragment.

    Raises:
        RequestRefused: it is not a plain ``http://`` or ``https://`` URL. The message holds
            nothing of it, since it may hold a secret anywhere.
    """
    if len(text) > MAX_URL_LENGTH:
        raise RequestRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
    if _FORBIDDEN.search(text):
        raise RequestRefused("the URL holds a space, a backslash or a control character")
    if (match := _URL.fullmatch(text)) is None:
        raise RequestRefused("the URL does not start with http:// or https:// and a host")
    if "@" in match["authority"]:
        raise RequestRefused(
            "the URL holds a user name or password; give an Authorization header instead"
        )
    if (authority := _AUTHORITY.fullmatch(match["authority"])) is None:
        raise RequestRefused("the URL has no plain host and port")
    scheme = match["scheme"].lower()
    host = _read_ipv6(authority["ipv6"]) if authority["ipv6"] else _read_name(authority["name"])
    port = _read_port(authority["port"])
    return _put_together(scheme, host, port, match["rest"])


def follow(url: httpx2.URL, location: str) -> httpx2.URL:
    """Where the ``Location`` header of an answer from ``url`` leads.

    Raises:
        RequestRefused: to no plain URL.
    """
    # Looked at before it is joined: joining would quietly take some of these out.
    if _FORBIDDEN.search(location):
        raise RequestRefused("the redirect holds a space, a backslash or a control character")
    if location.startswith("//"):
        return read_url(f"{url.scheme}:{location}")
    if _SCHEME.match(location):
        return read_url(location)
    # Without scheme and host of its own there is nothing left to be misread.
    return read_url(urljoin(str(url), location))


def origin_of(url: httpx2.URL) -> str:
    """``https://example.com:8443``: all of a URL that errors may tell. Paths hold secrets,
    too: with some services the path is the whole credential."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def without_query(url: httpx2.URL) -> str:
    """``url`` as it may be recorded: with its path, and a mark in place of its query."""
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    return f"{origin_of(url)}{path}{'?***' if url.query else ''}"


def _read_name(text: str) -> str:
    # One dot at the end means the same name; TLS and allowed hosts know it without.
    name = text.removesuffix(".").lower()
    if not name.isascii():
        name = _to_ascii(name)
    if len(name) > _MAX_NAME_LENGTH or _NAME.fullmatch(name) is None:
        raise RequestRefused("the URL's host is neither a name nor an address")
    try:
        address = read_ipv4(name)
    except ValueError as error:
        raise RequestRefused(f"the URL's host is not plain: {error}") from None
    return name if address is None else str(address)


def _to_ascii(name: str) -> str:
    """By IDNA 2008, which knows no look-alikes of digits, dots or letters."""
    try:
        return httpx2.URL(scheme="http", host=name).raw_host.decode("ascii")
    except (httpx2.InvalidURL, UnicodeError):
        raise RequestRefused("the URL's host is no name by the rules of IDNA 2008") from None


def _read_ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except AddressValueError:
        raise RequestRefused("the URL's host is no IPv6 address") from None


def _read_port(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text) > 5 or not 1 <= int(text) <= 65_535:
        raise RequestRefused("the URL's port lies outside 1 to 65535")
    return int(text)


def _put_together(scheme: str, host: str, port: int | None, rest: str) -> httpx2.URL:
    written = f"[{host}]" if ":" in host else host
    suffix = "" if port is None else f":{port}"
    try:
        url = httpx2.URL(f"{scheme}://{written}{suffix}{rest if rest[:1] == '/' else '/' + rest}")
    except (httpx2.InvalidURL, UnicodeError):
        raise RequestRefused("the URL cannot be used as it is") from None
    # Two readings that have to agree: what is checked is then what is called.
    parts = urlsplit(str(url))
    agree = (url.scheme, url.raw_host.decode("ascii")) == (scheme, host)
    if not agree or (parts.scheme, parts.hostname) != (scheme, host) or url.userinfo:
        raise RequestRefused("the URL can be read in more than one way")
    return url
