"""Which URLs of an answer may be fetched, and which addresses count as public."""

import ipaddress
import pickle

import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from hinow_async._errors import ConfigurationError, UnsafeURLError
from hinow_async._protocol.urls import (
    ForbiddenAddressError,
    check_redirect,
    check_url,
    is_public,
    origin_of,
    parse_base_url,
    without_query,
)

PRIVATE_TEXT = """
127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254
100.64.0.1 100.100.100.200 192.0.0.1 192.0.0.9 192.0.0.192 198.18.0.1 198.19.255.255 192.0.2.1 198.51.100.1
203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16 192.88.99.1 :: ::1 fe80::1
fe80::1%eth0 fe80::1%1 2606:4700::1111%eth0 fec0::1 fc00::1 fd00:ec2::254 ff02::1 ff0e::1 ::ffff:127.0.0.1
::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::7f00:1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1
64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:e000:1:: 2001::1
2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 3fff::1 100::1 5f00::1 4000::1
"""
PRIVATE = PRIVATE_TEXT.split()

PUBLIC_TEXT = """
8.8.8.8 1.1.1.1 93.184.215.14 172.15.0.1 172.32.0.1 192.169.0.1 100.63.255.255 100.128.0.1 2606:4700::1111
2a00:1450:4001:80b::200e ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1 ::8.8.8.8
"""
PUBLIC = PUBLIC_TEXT.split()


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address):
    """Nothing that leads to this host, this site, a cloud's metadata or a group is public."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are_public(address):
    """Global unicast addresses are public, also inside a form that carries them."""
    assert is_public(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "\uff11\uff12\uff17.0.0.1",
        "8.8.8.8 ",
        "[::1]",
        "8.8.8.8/32",
    ],
)
def test_what_is_no_address_is_not_public(text):
    """Only the one numeric form that a socket reports is read."""
    assert not is_public(text)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_form_that_carries_it(address):
    """Mapped, compatible, NAT64 and 6to4 forms are exactly as public as the address inside."""
    forms = [
        ipaddress.IPv6Address(prefix | int(address))
        for prefix in (0xFFFF_0000_0000, 0, int(ipaddress.IPv6Address("64:ff9b::")))
    ]
    forms.append(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80) | 1))
    assert {is_public(str(form)) for form in forms} == {is_public(str(address))}


@given(st.ip_addresses())
def test_public_is_never_wider_than_the_registry(address):
    """What the standard library calls private, we do too."""
    carried = isinstance(address, ipaddress.IPv6Address) and (
        address.sixtofour or address.ipv4_mapped or int(address) >> 32 in {0, 0x64FF9B << 64}
    )
    if is_public(str(address)) and not carried:
        assert address.is_global
        assert not address.is_multicast


UNSAFE = [
    *(f"https://{address}/a.png" for address in PRIVATE if ":" not in address),
    *(f"https://[{address}]/a.png" for address in PRIVATE if ":" in address),
    "http://example.com/a.png",
    "file:///etc/passwd",
    "ftp://example.com/a.png",
    "gopher://example.com/",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "//example.com/a.png",
    "/a.png",
    "a.png",
    "",
    "https:",
    "https:/example.com/a.png",
    "https:///a.png",
    "https://?x",
    "https://:443/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0X7F.0.0.1/",
    "https://0x/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.1/",
    "https://127.0.0.1./",
    "https://127.0.0.1../",
    "https://8.8.8/",
    "https://08.8.8.8/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::ffff:7f00:1]/",
    "https://[fe80::1%25eth0]/",
    "https://[::1",
    "https://::1/",
    "https://[v1.x]/",
    "https://[]/",
    "https://[8.8.8.8]/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://\uff11\uff12\uff17\u3002\uff10\u3002\uff10\u3002\uff11/",
    "https://\u24dbocalhost/",
    "https://bücher.example/",
    "https://localhost/",
    "https://localhost./",
    "https://LOCALHOST/",
    "https://foo.localhost/",
    "https://localhost.localdomain/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://router.home.arpa/",
    "https://intranet/",
    "https://%6c%6fcalhost/",
    "https://example%2ecom/",
    "https://exa mple.com/",
    "https://example.com\t/",
    "https://exam\nple.com/",
    "https://example.com/a\r\nX: y",
    "https://example.com/\x00",
    "https://example.com/\x85",
    "https://example.com/\ud800",
    " https://example.com/",
    "https://good.example\\@evil.example/",
    "https://good.example\\.evil.example/",
    "https://example.com/a\\b",
    "https://good.example@evil.example/",
    "https://user:password@example.com/",
    "https://@example.com/",
    "https://example.com:0/",
    "https://example.com:22/",
    "https://example.com:80/",
    "https://example.com:8443/",
    "https://example.com:99999/",
    "https://example.com:\uff14\uff14\uff13/",
    "https://example.com:+443/",
    "https://example.com:443:443/",
    "https://.example.com/",
    "https://example..com/",
    "https://-example.com/",
    "https://example-.com/",
    f"https://{'a' * 64}.com/",
    f"https://{'a.' * 127}com/",
    "https://example.com..",
    "https://[::1].example.com/",
    "https://example.com[::1]/",
]


@pytest.mark.parametrize("url", UNSAFE)
def test_urls_that_are_refused(url):
    """Each known way to lead a fetcher astray ends before anything is dialled."""
    with pytest.raises(UnsafeURLError):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://example.com", "https://example.com/"),
        ("https://example.com/a.png#part", "https://example.com/a.png"),
        ("HTTPS://CDN.Example.COM:443/A.png?X=1", "https://cdn.example.com/A.png?X=1"),
        ("https://example.com.:/a", "https://example.com/a"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("https://my_bucket.s3.amazonaws.com/%2F+%20a?s=%2B/=&&;:@", None),
        ("https://example.com/a b/é?q=ü", "https://example.com/a%20b/%C3%A9?q=%C3%BC"),
        ("https://8.8.8.8/a", None),
        ("https://[2606:4700::1111]/a", None),
        ("https://[2606:4700:0:0::1111]/a", "https://[2606:4700::1111]/a"),
        ("https://xn--bcher-kva.example/a", None),
        ("https://example.com/a@b", None),
        ("https://example.com/http://127.0.0.1/", None),
    ],
)
def test_urls_that_are_fetched_keep_their_path_and_query(url, text):
    """The canonical spelling differs in scheme, host and port only: a signed query stays as it is."""
    checked = check_url(url)
    assert checked.text == (text or url)
    assert yarl.URL(checked.text, encoded=True).raw_host == checked.origin[1].strip("[]")


EXEMPT = frozenset({("http", "127.0.0.1", 8080), ("https", "api.example", 444), ("http", "[::1]", 80)})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/a?b", "https://API.example:444/", "http://[0:0::1]/", "http://[::1]:80/"]
)
def test_an_exempt_origin_passes_as_it_is(url):
    """Scheme, port and address of an exempt origin are the user's business."""
    assert check_url(url, EXEMPT).origin in EXEMPT


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8081/",
        "https://127.0.0.1:8080/",
        "http://127.0.0.2:8080/",
        "https://api.example.:443/",
        "http://api.example:444/",
        "http://u@127.0.0.1:8080/",
        "http://127.0.0.1:8080\\@evil.example/",
        "http://127.1:8080/",
    ],
)
def test_what_only_looks_like_an_exempt_origin(url):
    """Exempt is one scheme, one host, one port; userinfo is refused even there."""
    if url == "https://api.example.:443/":
        assert check_url(url, EXEMPT).origin not in EXEMPT
    else:
        with pytest.raises(UnsafeURLError):
            check_url(url, EXEMPT)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/b.png?c", "https://example.com/b.png?c"),
        ("b.png", "https://example.com/x/b.png"),
        ("//other.example/b", "https://other.example/b"),
        ("https://other.example/b", "https://other.example/b"),
        ("?y", "https://example.com/x/a.png?y"),
    ],
)
def test_redirects_that_are_followed(location, text):
    """A Location may be relative (RFC 9110, section 10.2.2) and is checked like any URL."""
    source = check_url("https://example.com/x/a.png?s=1")
    assert check_redirect(source, location).text == text


@pytest.mark.parametrize(
    "location",
    [
        "http://example.com/",
        "file:///etc/passwd",
        "data:image/png;base64,AA",
        "https://127.0.0.1/",
        "https://[::1",
        "https://[::ffff:10.0.0.1]/",
        "https://u:p@example.com/",
        "//localhost/",
        "https://example.com:8080/",
        "\\\\evil.example\\a",
        "/\t/evil.example",
        "http://127.0.0.1:8080/",
        "https://api.example:444/",
    ],
)
def test_redirects_that_are_refused(location):
    """Each hop is checked anew, leaves neither https nor, towards an exempt origin, the world outside."""
    with pytest.raises(UnsafeURLError):
        check_redirect(check_url("https://example.com/x/a.png"), location, EXEMPT)


def test_redirects_of_an_exempt_origin():
    """It may point at itself and at public hosts; from https it may not fall back to http."""
    plain = check_url("http://127.0.0.1:8080/a", EXEMPT)
    secure = check_url("https://api.example:444/a", EXEMPT)
    assert check_redirect(plain, "/b", EXEMPT).text == "http://127.0.0.1:8080/b"
    assert check_redirect(plain, "https://cdn.example/b", EXEMPT).origin == ("https", "cdn.example", 443)
    with pytest.raises(UnsafeURLError, match="from https to http"):
        check_redirect(secure, "http://127.0.0.1:8080/b", EXEMPT)
    with pytest.raises(UnsafeURLError):
        check_redirect(plain, "http://127.0.0.1:22/b", EXEMPT)


def test_messages_hold_no_query_and_no_password():
    """What may be a signature or a password is not repeated; control characters are escaped."""
    with pytest.raises(UnsafeURLError) as caught:
        check_url("http://user:hunter2@example.com/a\x1b]8;.png?X-Amz-Signature=s3cr3t#f")
    shown = f"{caught.value} {caught.value!r} {caught.value.url}"
    assert caught.value.url == r"http://example.com/a\x1b]8;.png"
    assert not {"hunter2", "s3cr3t", "\x1b"} & {
        word for word in ("hunter2", "s3cr3t", "\x1b") if word in shown
    }
    assert "s3cr3t" not in repr(check_url("https://example.com/a?s3cr3t"))


@given(st.text())
def test_any_text_can_be_shown(text):
    """A message can be made of any text: printable, bounded, and without what follows the first ? or #."""
    shown = without_query(text)
    assert shown.isprintable()
    assert len(shown) <= 200
    assert not {"?", "#"} & set(shown)


@given(st.text() | st.from_regex(r"https?://[a-z0-9.:@\[\]%\\-]{0,30}(/.*)?", fullmatch=True))
def test_whatever_passes_is_read_alike_by_the_http_client(url):
    """No text makes our reader and aiohttp's (yarl) see different servers."""
    try:
        checked = check_url(url)
    except UnsafeURLError:
        return
    other = yarl.URL(checked.text, encoded=True)
    assert (other.scheme, other.raw_host, other.port) == ("https", checked.origin[1].strip("[]"), 443)
    assert other.user is None
    assert other.password is None
    assert checked.text.isascii()
    assert check_url(checked.text) == checked


def test_origin_of():
    """Two spellings of one server have one origin."""
    assert (
        origin_of("HTTPS://Example.com./x")
        == origin_of("https://example.com:443")
        != origin_of("http://example.com")
    )
    with pytest.raises(UnsafeURLError):
        origin_of("ftp://example.com")


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://api.hinow.ai", "https://api.hinow.ai/v1"),
        ("https://api.hinow.ai/", "https://api.hinow.ai/v1"),
        ("https://api.hinow.ai/v1", "https://api.hinow.ai/v1"),
        ("https://API.hinow.ai:443/v1///", "https://api.hinow.ai/v1"),
        ("https://gateway.example:8443/hinow", "https://gateway.example:8443/hinow/v1"),
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1"),
        ("http://127.9.9.9", "http://127.9.9.9/v1"),
        ("http://[::1]:8080", "http://[::1]:8080/v1"),
        ("https://10.0.0.1", "https://10.0.0.1/v1"),
    ],
)
def test_base_urls(text, base):
    """All spellings of a root end in /v1, without a slash; the user's own https host may be anywhere."""
    assert parse_base_url(text) == (base, origin_of(base))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.hinow.ai",
        "//api.hinow.ai",
        "https://",
        "https:///v1",
        "ftp://api.hinow.ai",
        "https://api.hinow.ai?x=1",
        "https://api.hinow.ai/v1?",
        "https://api.hinow.ai/v1#x",
        "https://u:hunter2@api.hinow.ai",
        "http://api.hinow.ai",
        "http://10.0.0.1",
        "http://localhost.evil.example",
        "http://[::ffff:10.0.0.1]",
        "https://api.hinow.ai:0",
        "https://api.hinow.ai\n",
        "https://127.1",
    ],
)
def test_base_urls_that_are_refused(text):
    """A root that is half a URL, or would show the key to the network, is a ConfigurationError."""
    with pytest.raises(ConfigurationError) as caught:
        parse_base_url(text)
    assert "hunter2" not in str(caught.value)


def test_forbidden_addresses_all_read_alike():
    """The error keeps its type where errors of several addresses are merged, and across processes."""
    one, two = ForbiddenAddressError("10.0.0.1"), ForbiddenAddressError("::1")
    assert str(one) == str(two)
    assert one.errno is None
    assert one.address == "10.0.0.1"
    assert isinstance(pickle.loads(pickle.dumps(one)), ForbiddenAddressError)
