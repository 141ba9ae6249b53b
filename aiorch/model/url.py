"""URLs of functions: made from a pattern, checked before a call, shown without secrets; the audiences of tokens."""

import ipaddress
import re
from collections.abc import Mapping
from string import Formatter

from yarl import URL

_PLACEHOLDERS = frozenset({"name", "service", "project_id", "region"})
_URL_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", re.ASCII)
_USER_INFO = re.compile(r"(\A[a-z+.\-]*://(?!/)|\A(?=[^/@]+:[^/])).+@", re.DOTALL | re.IGNORECASE)
_QUERY_VALUE = re.compile(r"([?&][^=&#]*=)[^&#]+")
_NOT_IN_URLS = re.compile(r"[\s\\\x00-\x20\x7f]")


MASK = "**********"


def masked(url: str) -> str:
    """
    Return *url* in the form for messages: without user name, password and the values of the query.

    An invalid URL is masked too. All characters up to the last ``@`` may be part of a password.
    """
    return _QUERY_VALUE.sub(rf"\g<1>{MASK}", _USER_INFO.sub(rf"\g<1>{MASK}@", url))


def placeholders(url_pattern: str) -> frozenset[str]:
    """
    Return the names of the placeholders in *url_pattern*.

    Raises:
        ValueError: A placeholder is unknown, or has more than a name between the braces.
    """
    fields = [
        (name, spec, conversion) for _, name, spec, conversion in Formatter().parse(url_pattern) if name is not None
    ]
    if any(name not in _PLACEHOLDERS or spec or conversion for name, spec, conversion in fields):
        known = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS))
        raise ValueError(f"URL pattern {masked(url_pattern)!r} cannot be used: the only placeholders are {known}.")
    return frozenset(name for name, _, _ in fields)


def fill_in(url_pattern: str, values: Mapping[str, str | None]) -> str:
    """
    Return the URL that *url_pattern* gives.

    Raises:
        ValueError: A value is missing, or could change the URL beyond the place of the value.
    """
    for name, value in values.items():
        if value is None or not _URL_PART.fullmatch(value):
            raise ValueError(f"{name} {value!a} cannot be part of a URL: use letters, digits, '-', '_' and '.'")
    return url_pattern.format_map(values)


def checked_pattern(text: str) -> str:
    """Return *text* as a pattern of URLs that can be called. Raises: ValueError for every other text."""
    checked_url(fill_in(text, dict.fromkeys(placeholders(text), "x")))
    return text


def checked_url(text: str) -> URL:
    """Return *text* as the URL to call. Raises: ValueError for a URL that cannot or must not be called."""
    if _NOT_IN_URLS.search(text):
        raise ValueError(f"URL {masked(text)!a} is not valid: a URL has no spaces, backslashes or control characters")
    try:
        url = URL(text)
        host = url.raw_host or ""
        host.encode("idna")  # as the resolver will
    except ValueError as error:
        reason = "" if "@" in text else f": {error}"  # the text of the error may repeat a password
        raise ValueError(f"URL {masked(text)!a} is not valid{reason}") from error
    if url.scheme not in {"http", "https"} or not host:
        raise ValueError(f"URL {masked(text)!a} is not valid: a URL must begin with https:// and name a host")
    if url.user is not None or url.password is not None:
        raise ValueError(
            f"the URL of host {host!r} holds a user name or password, which every run would store and show"
        )
    if url.scheme == "http" and not _is_loopback(host):
        raise ValueError(
            f"URL {masked(text)!a} is refused: plain http shows the call to every host on the way, and is allowed "
            f"to this machine only (localhost, 127.0.0.0/8, ::1); use https"
        )
    return url


def redirected_to(location: str | None) -> str:
    """Return the destination in a header ``Location``, for messages: the host, since the rest may be secret."""
    try:
        host = URL(location or "").host
    except ValueError:
        return "a text that is no URL"
    return f"host {host!r}" if host else "a different path of the same host"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def audience_of(url: URL) -> str:
    """
    Return the audience of an ID token for *url*.

    Source: Cloud Functions documentation, "Authenticate for invocation": the function's URL; Cloud Run documentation,
    "Authenticating service-to-service": the service's URL, without a path.
    """
    origin = str(url.origin())
    if (url.raw_host or "").endswith(".cloudfunctions.net"):
        return f"{origin}/{url.raw_path.removeprefix('/').split('/')[0]}"
    return origin
