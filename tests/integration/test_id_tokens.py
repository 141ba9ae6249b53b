"""ID tokens from every kind of credentials, against a fake of Google's endpoints on loopback."""

import asyncio
import json
import socket
import subprocess
import sys

import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aiorch.google import id_tokens
from aiorch.google.id_tokens import IdTokenError, IdTokens
from tests.fakes.serving import anything, serving
from tests.tokens import AUDIENCE, NOW, an_id_token

ACCOUNT = "runner@acme.iam.gserviceaccount.com"


class Clock:
    """Time of day, moved by hand."""

    def __init__(self):
        self.time = NOW

    def __call__(self):
        return self.time


class FakeGoogle:
    """Metadata server, OAuth, STS and IAM Credentials in one; *answers* are used up before it makes tokens itself."""

    def __init__(self):
        self.requests = []
        self.answers = []
        self.gate = None
        self.asked = asyncio.Event()
        self.clock = Clock()

    async def handle(self, request):
        body = await request.text()
        self.requests.append((request, body))
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        path = request.path
        if path.endswith("/identity"):
            return self.from_metadata_server(self.a_token(request.query["audience"]))
        if path.endswith("/default/token"):
            return self.from_metadata_server(json.dumps({"access_token": "machine-access", "expires_in": 3600}))
        if path.endswith(":generateIdToken"):
            return web.json_response({"token": self.a_token(json.loads(body)["audience"])})
        return web.json_response(self.granted(await request.post()))

    def granted(self, form):
        if "assertion" in form:
            claims = jwt.decode(form["assertion"], options={"verify_signature": False})
            if "target_audience" in claims:
                return {"id_token": self.a_token(claims["target_audience"])}
            token = "key-access"
        elif form["grant_type"] == "refresh_token":
            token = f"access-of-{form['refresh_token']}"
        else:
            token = f"sts-access-for-{form['subject_token']}"
        return {"access_token": token, "expires_in": 3600}

    def a_token(self, audience):
        return an_id_token(audience, exp=self.clock.time + 3600, serial=len(self.requests))

    @staticmethod
    def from_metadata_server(text, **kwargs):
        return web.Response(text=text, headers={"Metadata-Flavor": "Google"}, **kwargs)

    def calls(self):
        """Return (path, bearer) of every request."""
        return [
            (request.path, request.headers.get("Authorization", "").removeprefix("Bearer "))
            for request, _ in self.requests
        ]


@pytest_asyncio.fixture
async def google(monkeypatch, tmp_path):
    """Run a fake Google, and leave this process without credentials other than its metadata server's."""
    fake = FakeGoogle()
    async with serving(anything(fake.handle)) as fake.url:
        fake.host = fake.url.removeprefix("http://")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
        monkeypatch.setenv("GCE_METADATA_HOST", fake.host)
        yield fake
        if fake.gate is not None:
            fake.gate.set()


@pytest_asyncio.fixture
async def tokens(google):
    tokens = IdTokens(now=google.clock, iam_url=google.url)
    yield tokens
    await tokens.aclose()


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def key_file(google, rsa_key):
    pem = rsa_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "client_email": "key@acme.iam.gserviceaccount.com",
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "token_uri": f"{google.url}/oauth",
    }


@pytest.fixture
def user_file(google):
    return {
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": "very-secret",
        "refresh_token": "user",
        "token_uri": f"{google.url}/oauth",
    }


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """Return a function that makes a mapping (or text) the credentials of this process."""

    def use(content):
        path = tmp_path / "credentials.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        return path

    return use


# Keeping and sharing


async def test_token_is_kept_until_shortly_before_it_expires(google, tokens):
    """A token is asked for once, and again when it has five minutes left."""
    first = await tokens.token(AUDIENCE)
    google.clock.time = NOW + 3600 - 301
    assert await tokens.token(AUDIENCE) == first
    google.clock.time = NOW + 3600 - 300
    second = await tokens.token(AUDIENCE)
    assert second != first
    assert await tokens.token(AUDIENCE) == second
    assert len(google.requests) == 2


async def test_each_audience_has_its_own_token(google, tokens):
    """A token is never given out for another audience than it was made for."""
    for audience in (AUDIENCE, "https://other.example", AUDIENCE):
        claims = jwt.decode(await tokens.token(audience), options={"verify_signature": False})
        assert claims["aud"] == audience
    assert len(google.requests) == 2


async def test_short_lived_token_is_given_out_and_not_kept(google, tokens):
    """A token that is already close to its end serves the caller, and the next caller gets a new one."""
    google.answers = [google.from_metadata_server(an_id_token(exp=NOW + 200))]
    assert await tokens.token(AUDIENCE) == an_id_token(exp=NOW + 200)
    assert await tokens.token(AUDIENCE) != an_id_token(exp=NOW + 200)


async def test_callers_share_one_fetch(google, tokens):
    """Callers that come while a token is fetched wait for that one."""
    google.gate = asyncio.Event()
    callers = [asyncio.create_task(tokens.token(AUDIENCE)) for _ in range(20)]
    await google.asked.wait()
    callers.append(asyncio.create_task(tokens.token(AUDIENCE)))
    google.gate.set()
    assert len(set(await asyncio.gather(*callers))) == 1
    assert len(google.requests) == 1


async def test_cancelled_caller_does_not_stop_the_others(google, tokens):
    """When the caller that began the fetch is cancelled, those that share it still get the token."""
    google.gate = asyncio.Event()
    first = asyncio.create_task(tokens.token(AUDIENCE))
    await google.asked.wait()
    second = asyncio.create_task(tokens.token(AUDIENCE))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    google.gate.set()
    assert (await second).endswith(".c2lnbmF0dXJl")
    assert len(google.requests) == 1


async def test_fetch_outlives_all_its_callers(google, tokens):
    """A fetch that nobody waits for any more still ends, and serves the next caller."""
    google.gate = asyncio.Event()
    only = asyncio.create_task(tokens.token(AUDIENCE))
    await google.asked.wait()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    google.gate.set()
    await tokens.token(AUDIENCE)
    assert len(google.requests) == 1


async def test_failure_reaches_every_caller_and_is_not_kept(google, tokens):
    """All that share a failed fetch are told; the next call tries again."""
    google.gate = asyncio.Event()
    google.answers = [google.from_metadata_server("down", status=503)]
    callers = [asyncio.create_task(tokens.token(AUDIENCE)) for _ in range(3)]
    await google.asked.wait()
    google.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [IdTokenError] * 3
    assert len(google.requests) == 1
    assert (await tokens.token(AUDIENCE)).endswith(".c2lnbmF0dXJl")


async def test_close_ends_what_is_under_way(google, tokens):
    """Closing gives up open fetches; who waits for one is cancelled with it."""
    google.gate = asyncio.Event()
    caller = asyncio.create_task(tokens.token(AUDIENCE))
    await google.asked.wait()
    await tokens.aclose()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_hanging_source_is_given_up(google, tokens, monkeypatch):
    """A source that never answers is given up after a while, with an error that says so."""
    monkeypatch.setattr(id_tokens, "FETCH_S", 0.05)
    google.gate = asyncio.Event()
    with pytest.raises(IdTokenError, match=r"TimeoutError\. "):
        await tokens.token(AUDIENCE)


# The metadata server


async def test_metadata_server(google, tokens):
    """Without a credentials file the metadata server is asked, for exactly this audience."""
    audience = "https://f.example/a?b=c&d=%20 e"
    claims = jwt.decode(await tokens.token(audience), options={"verify_signature": False})
    assert claims["aud"] == audience
    [(request, _)] = google.requests
    assert request.path == "/computeMetadata/v1/instance/service-accounts/default/identity"
    assert dict(request.query) == {"audience": audience, "format": "full"}
    assert request.headers["Metadata-Flavor"] == "Google"


async def test_metadata_host_is_read_at_each_fetch(google, tokens, monkeypatch):
    """The metadata server's address counts as it stands in the environment now, not at import."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("GCE_METADATA_HOST", dead)
        with pytest.raises(IdTokenError) as caught:
            await tokens.token(AUDIENCE)
    message = str(caught.value)
    assert repr(AUDIENCE) in message
    assert f"from the metadata server at {dead}" in message
    assert "set GOOGLE_APPLICATION_CREDENTIALS" in message
    monkeypatch.setenv("GCE_METADATA_HOST", google.host)
    assert (await tokens.token(AUDIENCE)).endswith(".c2lnbmF0dXJl")


# Keys


async def test_service_account_key(google, tokens, credentials, key_file, rsa_key):
    """A key signs a request for a token of this audience, and its own `token_uri` grants it."""
    credentials(key_file)
    claims = jwt.decode(await tokens.token(AUDIENCE), options={"verify_signature": False})
    assert claims["aud"] == AUDIENCE
    [(request, _)] = google.requests
    assert request.path == "/oauth"
    form = await request.post()
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert jwt.get_unverified_header(form["assertion"])["kid"] == "k1"
    asked = jwt.decode(
        form["assertion"],
        rsa_key.public_key(),
        ["RS256"],
        audience=key_file["token_uri"],
        options={"verify_exp": False},
    )
    assert asked["iss"] == asked["sub"] == key_file["client_email"]
    assert asked["target_audience"] == AUDIENCE
    assert (asked["iat"], asked["exp"]) == (NOW, NOW + 3600)


async def test_key_without_an_id(google, tokens, credentials, key_file):
    """A key file need not say which key it holds."""
    del key_file["private_key_id"]
    credentials(key_file)
    assert (await tokens.token(AUDIENCE)).endswith(".c2lnbmF0dXJl")


@pytest.mark.parametrize("private_key", ["hidden", "", None, 7], ids=["text", "empty", "null", "number"])
async def test_key_that_is_none(google, tokens, credentials, key_file, private_key):
    """A key that cannot sign is an error that names its file and does not show the key."""
    path = credentials({**key_file, "private_key": private_key})
    with pytest.raises(IdTokenError) as caught:
        await tokens.token(AUDIENCE)
    assert str(path) in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert google.requests == []


async def test_refused_key(google, tokens, credentials, key_file):
    """A key that was deleted is an error with Google's reason and the next move."""
    credentials(key_file)
    google.answers = [web.json_response({"error": "invalid_grant"}, status=400)]
    with pytest.raises(IdTokenError, match=r"invalid_grant.*whether the key was deleted"):
        await tokens.token(AUDIENCE)


async def test_rotated_key_counts_at_once(google, tokens, credentials, key_file):
    """Credentials are looked for at each fetch: a new file is used without a restart."""
    await tokens.token(AUDIENCE)
    credentials(key_file)
    await tokens.token("https://other.example")
    assert [path.rsplit("/", 1)[1] for path, _ in google.calls()] == ["identity", "oauth"]


# Impersonation


IAM_PATH = f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateIdToken"


async def test_impersonation_with_a_key(google, credentials, key_file):
    """With `impersonate` the credentials give an access token, and IAM Credentials makes the ID token."""
    credentials(key_file)
    tokens = IdTokens(
        impersonate=ACCOUNT, delegates=["a@acme", "projects/-/serviceAccounts/b@acme"], iam_url=google.url
    )
    claims = jwt.decode(await tokens.token(AUDIENCE), options={"verify_signature": False})
    assert claims["aud"] == AUDIENCE
    assert google.calls() == [("/oauth", ""), (IAM_PATH, "key-access")]
    assert json.loads(google.requests[1][1]) == {
        "audience": AUDIENCE,
        "includeEmail": True,
        "delegates": ["projects/-/serviceAccounts/a@acme", "projects/-/serviceAccounts/b@acme"],
    }


async def test_impersonation_from_the_metadata_server(google):
    """The account of this machine can impersonate another."""
    await IdTokens(impersonate=ACCOUNT, iam_url=google.url).token(AUDIENCE)
    machine = "/computeMetadata/v1/instance/service-accounts/default/token"
    assert google.calls() == [(machine, ""), (IAM_PATH, "machine-access")]


async def test_impersonation_by_a_user(google, credentials, user_file):
    """A user's own credentials make ID tokens by impersonating an account."""
    credentials(user_file)
    await IdTokens(impersonate=ACCOUNT, iam_url=google.url).token(AUDIENCE)
    assert google.calls() == [("/oauth", ""), (IAM_PATH, "access-of-user")]


async def test_impersonating_credentials_of_gcloud(google, tokens, user_file, tmp_path, monkeypatch):
    """Credentials that gcloud stored with an account to impersonate work as they are, from its own folder."""
    stored = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": (
            f"{google.url}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
        ),
        "source_credentials": user_file,
        "delegates": ["a@acme"],
    }
    folder = tmp_path / "gcloud"
    folder.mkdir()
    (folder / "application_default_credentials.json").write_text(json.dumps(stored))
    await tokens.token(AUDIENCE)
    assert google.calls() == [("/oauth", ""), (IAM_PATH, "access-of-user")]
    assert json.loads(google.requests[1][1])["delegates"] == ["projects/-/serviceAccounts/a@acme"]


@pytest.mark.skipif(sys.version_info < (3, 11, 3), reason="gcloud-aio-auth 5.5.2 reads them, and needs Python 3.11.3")
async def test_federated_credentials(google, tokens, credentials, tmp_path):
    """Workload identity federation exchanges its own token, and impersonates the account that its file names."""
    (tmp_path / "subject").write_text("subject-7")
    credentials(
        {
            "type": "external_account",
            "audience": "//iam.googleapis.com/pool",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{google.url}/sts",
            "credential_source": {"file": str(tmp_path / "subject")},
            "service_account_impersonation_url": (
                f"{google.url}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
            ),
        }
    )
    await tokens.token(AUDIENCE)
    assert google.calls() == [("/sts", ""), (IAM_PATH, "sts-access-for-subject-7")]


# Credentials that are of no use


async def test_user_without_an_account(google, tokens, credentials, user_file):
    """A user's own credentials make no ID tokens; the error says what does."""
    path = credentials(user_file)
    with pytest.raises(IdTokenError, match=r"'authorized_user'.*without impersonation.*gcloud auth") as caught:
        await tokens.token(AUDIENCE)
    assert str(path) in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert google.requests == []


async def test_named_file_that_is_not_there(google, tokens, monkeypatch, tmp_path):
    """A file that is named and missing is an error; the metadata server is not asked in its place."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    with pytest.raises(IdTokenError, match=r"gone\.json"):
        await tokens.token(AUDIENCE)
    assert google.requests == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("\x00", "is not JSON"),
        ("[]", "no `type`"),
        ("{}", "no `type`"),
        ('{"type": null}', "no `type`"),
        ('{"type": "gdch"}', "'gdch'"),
        ('{"type": 7}', "7"),
    ],
)
async def test_file_that_holds_no_credentials(google, tokens, credentials, content, words):
    """A file that cannot be used is an error that names it and what is wrong."""
    path = credentials(content)
    with pytest.raises(IdTokenError) as caught:
        await tokens.token(AUDIENCE)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_slow_libraries_are_imported_when_needed():
    """Importing the target costs neither the signing library nor the credentials library."""
    slow = "{'jwt', 'gcloud', 'cryptography'}"
    code = f"import sys, aiorch.targets.cloud_function.target; print([*sys.modules.keys() & {slow}])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
