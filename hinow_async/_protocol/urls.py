"""Which URLs may be fetched: a strict reading of them, and a strict idea of what a public address is.

Result URLs come from an answer, so they are hostile until checked (server-side request forgery, CWE-918).
They are read by one narrow grammar of our own and handed on in a canonical form: two parsers that read one
text in two ways are how such checks are usually passed by. Names are judged here by their spelling only;
the address they lead to is judged with `is_public` when it is dialled.
"""

from __future__ import annotations

import ipaddress
import re
import string
import urllib.parse
from typing import Final, TypeAlias

import attrs

from hinow_async._errors import ConfigurationError, UnsafeURLError

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port: two URLs with the same three belong to one server (RFC 6454)."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[A-Za-z0-9._\-]*)(?::([0-9]{0,5}))?", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?", re.ASCII)
# The last label of every spelling of an IPv4 address that resolvers know (inet_aton): 127.1, 0x7f.1, 017.
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_UNSAFE_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff\u2028\u2029]")
_KEPT_IN_PATHS: Final = string.ascii_letters + string.digits + string.punctuation

# Names that never lead out of a host or a site (RFC 6761, 6762, 8375, and the ICANN's `internal`).
_LOCAL_NAMES: Final = ("localhost", "localdomain", "local", "internal", "home.arpa")

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Where `ipaddress.is_global` says yes, or does in some Python versions, and we do not.
_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "168.63.129.16/32",  # Azure's metadata and health service
        "192.0.0.0/24",  # IETF protocol assignments; Oracle Cloud's metadata at .192
        "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba Cloud's metadata at 100.100.100.200
    )
)
_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation (RFC 9637)
    )
)


class ForbiddenAddressError(OSError):
    """A name led to an address that may not be dialled.

    The text is the same for all addresses and `errno` is None, on purpose: when several addresses of one
    name fail, connection code merges errors that differ, and the merged one would have lost this type.
    """

    address: str
    """The address that was refused."""

    def __init__(self, address: str = "") -> None:
        super().__init__("the host's address is not public")
        self.address = address


@attrs.frozen
class CheckedURL:
    """A URL that was read by our grammar, in canonical spelling: ASCII, no userinfo, no fragment."""

    text: str = attrs.field(repr=False)
    """To be requested exactly as it stands: its query may be signed."""
    origin: Origin

    @property
    def shown(self) -> str:
        """The URL without its query, for messages."""
        return without_query(self.text)


def is_public(address: str) -> bool:
    """Tell whether *address*, in its numeric form, is a global unicast one (RFC 6890 and its registries).

    Forms of IPv6 that carry an IPv4 address (mapped, compatible, 6to4, NAT64) are judged by that address;
    zone ids, multicast, Teredo and the metadata services of clouds are refused.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return _is_public_v4(parsed)
    if parsed.scope_id is not None:
        return False
    inner = _carried(parsed)
    return _is_public_v6(parsed) if inner is None else _is_public_v4(inner)


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _REFUSED_V4)


def _is_public_v6(address: ipaddress.IPv6Address) -> bool:
    if address not in _GLOBAL_UNICAST or not address.is_global:
        return False
    return not any(address in network for network in _REFUSED_V6)


def origin_of(url: str) -> Origin:
    """Return scheme, host and port of an `http:` or `https:` URL, in canonical spelling.

    Raises:
        UnsafeURLError: it is none, or is spelled in a way that readers disagree about.
    """
    return _read(url).origin


def check_url(url: str, exempt: frozenset[Origin] = frozenset()) -> CheckedURL:
    """Check a result URL before it is fetched.

    An origin in *exempt* is taken as it is, `http:`, private address and port included; any other URL must
    be `https:`, on port 443, of a public address or of a name that may lead to one.

    Raises:
        UnsafeURLError: it may not be fetched; the message says why.
    """
    checked = _read(url)
    if checked.origin in exempt:
        return checked
    scheme, host, port = checked.origin
    if scheme != "https":
        raise _unsafe(url, "only https is fetched")
    if port != DEFAULT_PORTS["https"]:
        raise _unsafe(url, f"port {port} is not 443")
    if problem := _host_problem(host):
        raise _unsafe(url, problem)
    return checked


def check_redirect(source: CheckedURL, location: str, exempt: frozenset[Origin] = frozenset()) -> CheckedURL:
    """Check where an answer of *source* redirects to, as strictly as any URL of an answer.

    Raises:
        UnsafeURLError: the target may not be fetched, leaves https, or is an exempt origin that a stranger
            points at.
    """
    _refuse_characters(location)
    try:
        target = check_url(urllib.parse.urljoin(source.text, location), exempt)
    except ValueError as error:  # urljoin, at brackets that do not match
        raise _unsafe(location, "it redirects to something that is no URL") from error
    if source.origin[0] == "https" and target.origin[0] != "https":
        raise _unsafe(target.text, "it redirects from https to http")
    if target.origin in exempt and source.origin not in exempt:
        raise _unsafe(target.text, "another host redirects to it")
    return target


def without_query(url: str) -> str:
    """Return *url* for messages: no userinfo, query or fragment, no control characters, 200 characters."""
    text = url if isinstance(url, str) else repr(url)
    if text[:5].lower() == "data:":
        return "data:..."
    text = re.split(r"[?#]", text, maxsplit=1)[0]
    scheme, separator, rest = text.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        text = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    text = re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def parse_base_url(text: str) -> tuple[str, Origin]:
    """Return the root of the API, normalised to `.../v1` without a trailing slash, and its origin.

    `https://api.hinow.ai`, `https://api.hinow.ai/` and `https://api.hinow.ai/v1/` are the same root.

    Raises:
        ConfigurationError: no scheme or host, a query, a fragment, userinfo, or `http:` outside loopback,
            where anyone on the way could read the key.
    """
    shown = without_query(text)
    try:
        read = _read(text)
    except UnsafeURLError as error:
        raise ConfigurationError(f"base_url {shown!r}: {error}") from None
    if "?" in text or "#" in text:
        raise ConfigurationError(f"base_url {shown!r}: it may have no query and no fragment")
    scheme, host, _ = read.origin
    if scheme == "http" and not _is_loopback(host):
        raise ConfigurationError(f"base_url {shown!r}: http is for loopback only, since it shows the key")
    base = read.text.rstrip("/")
    return (base if base.endswith("/v1") else f"{base}/v1"), read.origin


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _unsafe(url: str, problem: str) -> UnsafeURLError:
    shown = without_query(url)
    return UnsafeURLError(f"{shown} may not be fetched: {problem}", url=shown)


def _refuse_characters(url: str) -> None:
    if not isinstance(url, str):
        raise _unsafe(url, "it is not text")
    if _UNSAFE_CHARACTERS.search(url):
        raise _unsafe(url, "it has a control character or a backslash")


def _read(url: str) -> CheckedURL:
    """Read an `http:` or `https:` URL by the narrow grammar."""
    _refuse_characters(url)
    parts = _URL.fullmatch(url)
    if parts is None:
        raise _unsafe(url, "it is not an absolute http or https URL")
    scheme, authority, rest = parts[1].lower(), parts[2], parts[3]
    if scheme not in DEFAULT_PORTS:
        raise _unsafe(url, "it is neither http nor https")
    if "@" in authority:
        raise _unsafe(url, "it has a user name in it")
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        raise _unsafe(url, "its host is not plain ASCII (an international name belongs in its xn-- form)")
    host, port = _canonical_host(url, split[1]), int(split[2] or DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise _unsafe(url, f"there is no port {port}")
    shown_port = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    path = urllib.parse.quote(rest if rest.startswith("/") else f"/{rest}", safe=_KEPT_IN_PATHS)
    return CheckedURL(f"{scheme}://{host}{shown_port}{path}", (scheme, host, port))


def _canonical_host(url: str, host: str) -> str:
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            raise _unsafe(url, "its host is no IPv6 address") from None
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    if not host or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _unsafe(url, "it has no valid host")
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise _unsafe(url, "its host is a number, not a name") from None
    return host


def _host_problem(host: str) -> str | None:
    """Why a host in canonical spelling may not be fetched from; None if nothing speaks against it."""
    if host.startswith("[") or _NUMERIC.fullmatch(host.rpartition(".")[2]):
        return None if is_public(host.strip("[]")) else "its address is not public"
    if "." not in host or any(host == name or host.endswith(f".{name}") for name in _LOCAL_NAMES):
        return "its host is a local name"
    return None
