"""The pure half of calling a function: its URL, its headers, and what an answer means."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from aiorch.model import url as function_url
from aiorch.ports.target import Failed, NotStarted, Succeeded
from aiorch.targets.calls import http_call
from aiorch.targets.cloud_function.target import DEFAULT_URL_PATTERN
from tests.contexts import KEY, a_context

JSON = "application/json"


def read(body, content_type=JSON, bytes_max=1000):
    return http_call.read_success("https://f.example/load", content_type, body, bytes_max=bytes_max)


def refusal(status, *, reason="", location=None, body=b""):
    return http_call.read_refusal("https://f.example/load", status, reason, location, body)


# URLs


def test_default_pattern_is_the_first_generations_form():
    """Region, project and name give the URL under which functions of both generations answer."""
    parts = {"region": "europe-west1", "project_id": "acme-data", "name": "load_orders"}
    url = function_url.fill_in(DEFAULT_URL_PATTERN, parts)
    assert url == "https://europe-west1-acme-data.cloudfunctions.net/load_orders"
    assert function_url.placeholders(DEFAULT_URL_PATTERN) == parts.keys()


@pytest.mark.parametrize(
    "pattern",
    ["https://{host}/", "https://x/{}", "https://x/{name!r}", "https://x/{name:>9}", "https://x/{name.upper}"],
)
def test_unknown_placeholders_are_refused(pattern):
    """A pattern with a placeholder that is not known is refused whole, and the message names those that are."""
    with pytest.raises(ValueError, match=r"\{name\}, \{project_id\}, \{region\}, \{service\}"):
        function_url.placeholders(pattern)


@pytest.mark.parametrize(
    "value", ["../admin", "a/b", "a?b", "a#b", "a@b", "a:b", "", " a", "a\n", ".", "..", "é", "\ud800", None]
)
def test_a_value_cannot_change_the_rest_of_the_url(value):
    """A name that would lead to another path or host is refused, whatever the pattern."""
    with pytest.raises(ValueError, match="cannot be part of a URL"):
        function_url.fill_in("https://x.example/{name}", {"name": value})


@pytest.mark.parametrize(
    "text",
    [
        "https://f.example/load?x=1",
        "http://localhost:8080/f",
        "http://127.0.0.1/",
        "http://127.8.9.1:1/",
        "http://[::1]:80/",
    ],
)
def test_allowed_urls(text):
    """https goes anywhere, plain http to this machine."""
    assert str(function_url.checked_url(text)) == str(URL(text))


@pytest.mark.parametrize(
    "text",
    [
        "http://f.example/load",
        "http://10.0.0.1/",
        "http://127.0.0.1.f.example/",
        "http://localhost.f.example/",
        "http://[::2]/",
        "http://2130706433/",
        "http://127.1/",
        "HTTP://F.EXAMPLE/",
    ],
)
def test_plain_http_to_other_machines_is_refused(text):
    """Plain http to a host that is not certainly this machine is refused, with the reason and the cure."""
    with pytest.raises(ValueError, match=r"is refused: plain http .* use https"):
        function_url.checked_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "load",
        "ftp://f.example/",
        "https://",
        "https:///load",
        "//f.example/",
        "file:///etc/passwd",
        "https://h:99999/",
        "http://[::1/",
        "https://a..b/",
        f"https://{'a' * 70}.example/",
        "https://\ud800.example/",
    ],
)
def test_urls_that_cannot_be_called(text):
    """What is no URL with a host that can be looked up is refused, before a connection is tried."""
    with pytest.raises(ValueError, match="is not valid"):
        function_url.checked_url(text)


@pytest.mark.parametrize("text", ["https://me:secret@f.example/", "http://me@localhost/", "https://:secret@f.example/"])
def test_credentials_in_a_url_are_refused_and_not_shown(text):
    """A URL with a user name or password is refused, and the message does not repeat them."""
    with pytest.raises(ValueError, match="user name or password") as caught:
        function_url.checked_url(text)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_value_error(text):
    """Whatever stands in a definition as URL is accepted or refused, never a crash."""
    try:
        url = function_url.checked_url(text)
    except ValueError:
        return
    assert url.scheme == "https" or url.host in {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://europe-west1-acme.cloudfunctions.net/load", "https://europe-west1-acme.cloudfunctions.net/load"),
        (
            "https://europe-west1-acme.cloudfunctions.net/load/a?b=1",
            "https://europe-west1-acme.cloudfunctions.net/load",
        ),
        ("https://load-123.europe-west1.run.app/a/b?c=1", "https://load-123.europe-west1.run.app"),
        ("https://f.example:8443/a", "https://f.example:8443"),
        ("https://cloudfunctions.net.evil.example/a/b", "https://cloudfunctions.net.evil.example"),
    ],
)
def test_audiences(url, audience):
    """The audience is the function's URL, for everything else the service's without a path."""
    assert function_url.audience_of(URL(url)) == audience


# Requests


def test_headers_carry_the_key_and_the_run():
    """The execution's key goes out in every form that a platform or a function may look for."""
    headers = http_call.headers(a_context())
    assert headers["traceparent"] == f"00-{KEY}-0af7651916cd43dd-01"
    assert headers["X-Cloud-Trace-Context"] == f"{KEY}/{0x0AF7651916CD43DD};o=1"
    assert headers["Idempotency-Key"] == headers["Function-Execution-Id"] == KEY
    assert headers["Content-Type"] == JSON
    assert re.fullmatch(r"aiorch/\S+", headers["User-Agent"])
    assert (headers["X-Aiorch-Run-Id"], headers["X-Aiorch-Node"], headers["X-Aiorch-Attempt"]) == (
        "run_1",
        "Step%201",
        "2",
    )
    assert headers == http_call.headers(a_context())


@given(st.text())
def test_any_node_name_is_safe_in_a_header(node):
    """No node name breaks out of its header, and every one that is text comes back by percent-decoding."""
    value = http_call.headers(a_context(node=node))["X-Aiorch-Node"]
    assert re.fullmatch(r"[A-Za-z0-9_.~%\-]*", value)


@pytest.mark.parametrize("value", [object(), "\ud800", {1, object()}, 1j])
def test_parameters_that_are_no_json(value):
    """Parameters that cannot be encoded are a value error that says so."""
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        http_call.encode_parameters({"x": value})


def test_parameters_nested_without_end():
    """Parameters that hold themselves are a value error too."""
    endless = {}
    endless["x"] = endless
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        http_call.encode_parameters(endless)


# Answers


@pytest.mark.parametrize(
    ("content_type", "body", "result"),
    [
        (JSON, b'{"rows": 3}', b'{"rows":3}'),
        (JSON, b" [1,\n 2]\n", b"[1,2]"),
        (JSON, b"7", b"7"),
        (JSON, b'"done"', b'"done"'),
        (JSON, b"12345678901234567890123", b"12345678901234567890123"),
        (JSON, b"1.00000000000000000000001", b"1.00000000000000000000001"),
        (JSON, '"Grüße"'.encode(), '"Grüße"'.encode()),
        ("application/problem+json", b"false", b"false"),
        ("text/html", b'{"rows": 3}', b'{"rows":3}'),
        ("application/octet-stream", b"\n[1]", b"[1]"),
        ("text/html", b"7", b'"7"'),
        ("text/plain", b"null", b'"null"'),
        ("text/plain", "Grüße\n".encode(), '"Grüße\\n"'.encode()),
        ("text/html", b"{curly, but no JSON}", b'"{curly, but no JSON}"'),
        (JSON, b"OK", b'"OK"'),
        (JSON, b"NaN", b'"NaN"'),
        (JSON, b'{"a": 1', b'"{\\"a\\": 1"'),
        (JSON, b"1],[2", b'"1],[2"'),
        (JSON, b'"\\ud800"', b'"\\"\\\\ud800\\""'),
        (JSON, b"", None),
        (JSON, b"null\n", None),
        ("text/html", b"", None),
    ],
)
def test_results(content_type, body, result):
    """JSON stays JSON to the last digit, other text becomes a string, nothing stays nothing."""
    assert read(body, content_type) == Succeeded(result)


@pytest.mark.parametrize("content_type", [JSON, "image/png"])
def test_binary_answers_fail(content_type):
    """A successful answer that is neither JSON nor text fails the task, with its size, its type and the cure."""
    failure = read(b'{"a": "\xff\xfe"}', content_type).failure
    assert failure.type == "ResultNotJSON"
    assert f"11 bytes of {content_type}" in failure.message
    assert "bucket" in failure.message


def test_result_at_the_limit():
    """A body of exactly the limit is kept, one byte more fails the task."""
    assert read(b"[" + b"1" * 8 + b"]", bytes_max=10) == Succeeded(b"[11111111]")
    failure = read(b"[" + b"1" * 9 + b"]", bytes_max=10).failure
    assert failure.type == "ResultTooLarge"
    assert "limit of 10 bytes" in failure.message


def test_text_that_outgrows_the_limit_when_stored():
    """The limit holds for the stored form as well: control characters take six bytes in JSON."""
    assert read(b"\x01" * 900, "text/plain").failure.type == "ResultTooLarge"


@pytest.mark.parametrize("depth", [900, 5000, 200_000])
def test_nesting_that_a_document_could_not_hold(depth):
    """JSON nested so deeply that a document with it could not be read again is kept as text."""
    body = b"[" * depth + b"]" * depth
    assert read(body, bytes_max=1_000_000) == Succeeded(msgspec.json.encode(body.decode()))


@given(st.binary(max_size=50), st.sampled_from([JSON, "text/html", "", "image/png"]))
def test_any_body_becomes_json_or_a_failure(body, content_type):
    """Whatever a function answers, what is stored is valid JSON."""
    answer = read(body, content_type)
    if isinstance(answer, Succeeded):
        assert answer.result is None or json.loads(answer.result) is not None
    else:
        assert answer.failure.type == "ResultNotJSON"


@pytest.mark.parametrize("status", [100, 101, 199, 400, 401, 403, 404, 409, 418, 500, 501, 502, 503, 504, 599, 999])
def test_refusals_fail_under_their_status(status):
    """Every status that is neither success nor "never ran" is a failure named after it, with what the answer said."""
    answer = refusal(status, reason="Some Words", body=b" no such order\n")
    assert answer.failure.type == f"HTTP {status}"
    assert answer.failure.message.startswith(f"https://f.example/load answered HTTP {status} Some Words")
    assert answer.failure.cause == "no such order"


def test_refusal_without_a_body_has_no_cause():
    """An empty answer leaves no empty cause behind."""
    assert refusal(500).failure.cause is None


@pytest.mark.parametrize(("status", "words"), [(401, "ID token"), (403, "roles/run.invoker"), (404, "deployed")])
def test_refusals_with_a_known_cure_name_it(status, words):
    """What usually mends the common refusals stands in the message."""
    assert words in refusal(status).failure.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, b""),
        (429, b"Rate exceeded."),
        (429, b"The request was aborted because there was no available instance."),
        (500, b"<html>The request was aborted because there was No available instance.</html>"),
        (503, b"no available instance"),
    ],
)
def test_refused_for_load_never_ran(status, body):
    """429, and a server error that says that there was no instance, mean that the function never ran."""
    answer = refusal(status, body=body)
    assert isinstance(answer, NotStarted)
    assert f"HTTP {status}" in answer.reason


def test_a_client_error_that_mentions_instances_is_a_failure():
    """The words about instances count on server errors only: a function may say them of something else."""
    assert isinstance(refusal(404, body=b"no available instance"), Failed)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://accounts.google.example/login", "host 'accounts.google.example'"),
        ("/elsewhere", "a different path of the same host"),
        (None, "a different path of the same host"),
        ("http://[::bad/\udcff", "no URL"),
        ("https://h:99999/", "no URL"),
    ],
)
def test_redirects_name_their_host(location, words):
    """A redirect is a failure that says where it leads, even when that is nonsense."""
    failure = refusal(302, location=location).failure
    assert failure.type == "HTTP 302"
    assert words in failure.message


def test_hostile_texts_can_be_stored():
    """Reason, header and body that are no text still give a failure that a document can hold."""
    failure = refusal(302, reason="\udcff", location="https://\x00\udcff/", body=b"\xff\x00" * 4000).failure
    assert msgspec.json.decode(msgspec.json.encode(failure), type=type(failure)) == failure
    assert len(failure.cause) <= 1000
