"""One strict reading of URLs."""

import contextlib

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outbound.errors import RequestRefused
from worker.outbound.urls import follow, origin_of, read_url, without_query


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://EXAMPLE.com:443/A?b=C#d", "https://example.com/A?b=C"),
        ("http://example.com.:8080/", "http://example.com:8080/"),
        ("http://example.com?x", "http://example.com/?x"),
        ("http://a_b.example/", "http://a_b.example/"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("http://[2606:4700:0:0::1111]:81/", "http://[2606:4700::1111]:81/"),
        ("http://0x08080808/", "http://8.8.8.8/"),
        ("http://8.8.2056/", "http://8.8.8.8/"),
        ("http://example.com/a/../b@c:d", "http://example.com/b@c:d"),
    ],
)
def test_plain_urls_are_read(text: str, read: str) -> None:
    assert str(read_url(text)) == read


@pytest.mark.parametrize(
    "text",
    [
        "", "example.com", "//example.com", "ftp://example.com/", "file:///etc/passwd",
        "gopher://example.com/", "javascript:alert(1)", "http:example.com", "http:/example.com",
        "http:///example.com", "http://", "http://:80/", "http://.", "http://..", "http://a..b/",
        "http://-a.example/", "http://a-.example/", "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 127 + "example/", "http://exa mple.com/", "http://example.com/a b",
        "http://example.com\\@127.0.0.1/", "http:\\\\127.0.0.1/", "http://user@example.com/",
        "http://user:password@example.com/", "http://@example.com/", "http://a@b@example.com/",
        "http://example.com:/", "http://example.com:0/", "http://example.com:65536/",
        "http://example.com:80:80/", "http://example.com:+80/", "http://example.com:8_0/",
        "http://example.com:٨٠/", "http://exam%70le.com/", "http://%31%32%37.1/",
        "http://[::1/", "http://::1/", "http://[::1%25eth0]/", "http://[fe80::1%eth0]/",
        "http://[127.0.0.1]/", "http://[::1]x/", "http://[v1.x]/", "http://example.com\r\nX: y/",
        "http://example.com/\r\nX: y", "http://example.com/\x00", "http://exam\tple.com/",
        "http://example.com\u2028/", "http://example.com\u3000/", "http://①②⑦.0.0.1/",
        "http://\uff11\uff12\uff17.0.0.1/", "http://ⓛocalhost/", "http://example.com,127.0.0.1/",
        "http://a*b.example/", "http://1.2.3.4.5/", "http://example.1/", "http://256.1.1.1/",
        "http://example.com/" + "a" * 8_000, "http://\ud800.example/", "http://example.com/\ud800", "http://xn--.example\u00ad/",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_url(text)
    assert "127" not in str(refused.value)
    assert "example" not in str(refused.value)


def test_who_gives_a_password_in_the_url_is_told_where_it_belongs() -> None:
    with pytest.raises(RequestRefused, match="give an Authorization header instead"):
        read_url("https://user:password@example.com/")


@given(st.text(alphabet="htps:/\\@[]%.#?127xn-al\t\u3002\uff0e:0f", max_size=40))
def test_whatever_is_read_has_one_plain_host(rest: str) -> None:
    try:
        url = read_url(f"http://{rest}")
    except RequestRefused:
        return
    assert url.raw_host.isascii()
    assert not url.userinfo
    assert set(url.host) <= set("0123456789abcdefghijklmnopqrstuvwxyz.:-_")
    assert str(read_url(str(url))) == str(url)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"https://{text}", f"https://example.com/{text}"):
        with contextlib.suppress(RequestRefused):
            assert isinstance(read_url(candidate), httpx2.URL)


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("/b?c", "https://example.com/b?c"),
        ("c", "https://example.com/a/c"),
        ("?x=1", "https://example.com/a/b?x=1"),
        ("//other.example/x", "https://other.example/x"),
        ("http://127.1:81/", "http://127.0.0.1:81/"),
        ("#part", "https://example.com/a/b"),
    ],
)
def test_redirects_are_read_as_strictly(location: str, there: str) -> None:
    assert str(follow(read_url("https://example.com/a/b"), location)) == there


@pytest.mark.parametrize(
    "location",
    ["//user@other.example/", "\\\\127.0.0.1\\", "/\\127.0.0.1/", "file:///etc/passwd", "http://",
     "http://[::1", "//a\tb.example/", "x" * 9_000, "data:text/plain,x",
     "http:/127.0.0.1/", "http:127.0.0.1", "https:b", "////127.0.0.1/", "///x"],
)  # fmt: skip
def test_redirects_that_are_not_plain_are_refused(location: str) -> None:
    with pytest.raises(RequestRefused):
        follow(read_url("https://example.com/a/b"), location)


def test_only_origin_and_path_are_told() -> None:
    url = read_url("https://example.com:8443/path?token=secret")
    assert origin_of(url) == "https://example.com:8443"
    assert without_query(url) == "https://example.com:8443/path?***"
    assert without_query(read_url("http://[2606:4700::1]/")) == "http://[2606:4700::1]/"
