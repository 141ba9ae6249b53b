"""ID tokens: what each answer of the metadata server, of OAuth and of IAM Credentials means."""

import base64
import json
import re

import pytest
from aioresponses import aioresponses

from aiorch.google.id_tokens import IAM_URL, IdTokenError, IdTokens
from tests.tokens import AUDIENCE, NOW, an_id_token

ACCOUNT = "runner@acme.iam.gserviceaccount.com"
IDENTITY = re.compile(r"http://metadata\.example/computeMetadata/v1/instance/service-accounts/default/identity\?.*")
OAUTH = "https://oauth.example/token"
GENERATE = f"{IAM_URL}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateIdToken"
MARK = {"Metadata-Flavor": "Google"}


@pytest.fixture
def google(monkeypatch, tmp_path):
    """Answers of Google's endpoints, to a process without credentials other than its metadata server's."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", "metadata.example")
    with aioresponses() as google:
        yield google


@pytest.fixture
def user(google, monkeypatch, tmp_path):
    """Make a user's own credentials those of this process."""
    path = tmp_path / "user.json"
    user = {"client_id": "client", "client_secret": "hidden", "refresh_token": "hidden", "token_uri": OAUTH}
    path.write_text(json.dumps({"type": "authorized_user", **user}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


async def refused(**changes):
    """Ask for a token, and return the message of the refusal, which shows no secret."""
    with pytest.raises(IdTokenError) as caught:
        await IdTokens(now=lambda: NOW, **changes).token(AUDIENCE)
    assert repr(AUDIENCE) in str(caught.value)
    assert "hidden" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 404, "body": "no such account", "headers": MARK}, "HTTP 404 Not Found: no such account"),
        ({"status": 503, "headers": MARK}, "HTTP 503 Service Unavailable"),
        ({"status": 204, "headers": MARK}, "HTTP 204"),
        ({"status": 302, "headers": {"Location": "http://sign-in.example"}}, "HTTP 302"),
        ({"body": an_id_token()}, "no metadata server"),
        ({"body": an_id_token(), "headers": {"Metadata-Flavor": "Other"}}, "no metadata server"),
        ({"exception": TimeoutError()}, "so the function was not called: TimeoutError. "),
    ],
)
async def test_answers_of_the_metadata_server_that_give_no_token(google, answer, words):
    """A refusal is shown with its words, and an answer without the server's mark may be a captive portal's."""
    google.get(IDENTITY, **answer)
    google.get("http://sign-in.example", body=an_id_token(), headers=MARK)
    said = await refused()
    assert words in said
    assert "from the metadata server at metadata.example" in said
    assert "set GOOGLE_APPLICATION_CREDENTIALS" in said


async def test_a_long_refusal_is_cut(google):
    """The words of a refusal are cut to a readable length."""
    google.get(IDENTITY, status=404, body="no such account " + "x" * 5000, headers=MARK)
    assert len(await refused()) < 1000


def claims(**fields):
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "<html>sign in</html>",
        "hidden.hidden.hidden",
        "hidden.e30.hidden",
        f"hidden.{claims(exp='hidden')}.hidden",
        f"hidden.{claims(exp=None)}.hidden",
        f"{an_id_token()}\r\nX-Injected: hidden",
        "e30.W10.hidden",
        "hidden." + "A" * 100_000 + ".hidden",
    ],
)
async def test_answers_that_are_no_token(google, answer):
    """An answer that is no ID token with a time of expiry is an error, which does not repeat the possible secret."""
    google.get(IDENTITY, body=answer, headers=MARK)
    assert "no ID token with a time of expiry" in await refused()


GRANTED = {"payload": {"access_token": "hidden", "expires_in": 3600}}
ROLE = "Give the account of these credentials the role roles/iam.serviceAccountTokenCreator"


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("oauth", "iam", "words"),
    [
        ({"status": 400, "payload": {"error": "invalid_grant"}}, None, "invalid_grant"),
        (GRANTED, {"status": 403, "payload": {"error": {"message": "Permission denied"}}}, "Permission denied"),
        (GRANTED, {"status": 404, "payload": {"error": {"message": "Unknown account"}}}, "Unknown account"),
        (GRANTED, {"status": 302, "headers": {"Location": "http://sign-in.example"}}, "HTTP 302"),
        (GRANTED, {"payload": {}}, "KeyError: 'token'"),
        (GRANTED, {"body": "<html>"}, "JSONDecodeError"),
        (GRANTED, {"payload": {"token": "hidden"}}, "no ID token with a time of expiry"),
    ],
)
async def test_answers_to_an_impersonation_that_give_no_token(google, oauth, iam, words):
    """A refusal names the account, the reason that Google gives and the role that is needed."""
    google.post(OAUTH, **oauth)
    if iam is not None:
        google.post(GENERATE, **iam)
    said = await refused(impersonate=ACCOUNT)
    assert words in said
    assert ACCOUNT in said
    assert ROLE in said
