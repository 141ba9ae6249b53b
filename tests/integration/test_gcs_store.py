"""The store in a bucket: what goes over the wire, and what each answer means, against a fake with faults to order."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from aiorch import Orchestrator
from aiorch.errors import GenerationConflict, StoreError, StoreThrottled, StoreUnavailable, StoreUrlError
from aiorch.google.access_token import AccessToken
from aiorch.stores import open_store
from aiorch.stores.gcs import OBJECT_BYTES_MAX, GCSStore
from aiorch.testing.gcs_server import BUCKET as SERVER_BUCKET
from aiorch.testing.gcs_server import gcs_server
from tests.fakes.gcs import BUCKET, FakeGCS, Fault, fake_gcs
from tests.fakes.serving import anything, serving

NAME = "runs/a.json"
UNKNOWN = [Fault.UNAVAILABLE, Fault.TIMED_OUT, Fault.CONTENDED, Fault.RESET]
REFUSED = {
    Fault.BAD_REQUEST: "HTTP 400.*prefix",
    Fault.UNAUTHORIZED: "HTTP 401.*disabled",
    Fault.FORBIDDEN: rf"HTTP 403.*storage\.objects\.get.*roles/storage\.objectUser on bucket '{BUCKET}'",
}


@pytest.fixture
async def gcs(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGCS]:
    async with fake_gcs() as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        yield fake


@pytest.fixture
async def store(gcs: FakeGCS) -> AsyncIterator[GCSStore]:
    """A store in a fake bucket, which does not pause before it tries again."""
    store = GCSStore(BUCKET, retry_base_s=0)
    yield store
    await store.aclose()


# -- what goes over the wire -----------------------------------------------------------------------------------------


async def test_a_write_is_one_multipart_post_with_its_condition(store: GCSStore, gcs: FakeGCS) -> None:
    """Content, metadata and condition travel together, and the condition that nothing is there yet is sent as 0."""
    first = await store.write(NAME, b'{"n": 1}', if_generation_match=0, metadata={"status": "Running"})
    second = await store.write(NAME, b'{"n": 2}', if_generation_match=first)
    assert [(sent.method, sent.query["uploadType"], sent.query["ifGenerationMatch"]) for sent in gcs.sent] == [
        ("POST", "multipart", "0"),
        ("POST", "multipart", str(first)),
    ]
    assert gcs.objects[NAME][:2] == (b'{"n": 2}', second)
    assert gcs.objects[NAME].resource == {"name": NAME, "cacheControl": "no-store"}
    assert b'"status": "Running"' in gcs.sent[0].body
    assert b"application/json\r\n\r\n" + b'{"n": 1}\r\n' in gcs.sent[0].body


async def test_a_read_is_one_request_for_content_and_generation(store: GCSStore, gcs: FakeGCS) -> None:
    """Two requests could show the content of one moment with the generation of another."""
    generation = gcs.put(NAME, b"{}")
    assert await store.read(NAME) == (b"{}", generation)
    [sent] = gcs.sent
    assert (sent.method, sent.query) == ("GET", {"alt": "media"})


async def test_a_delete_sends_its_condition(store: GCSStore, gcs: FakeGCS) -> None:
    """A marker that was touched meanwhile stays."""
    generation = gcs.put(NAME, b"{}")
    await store.delete(NAME, if_generation_match=generation)
    [sent] = gcs.sent
    assert (sent.method, sent.query) == ("DELETE", {"ifGenerationMatch": str(generation)})


async def test_a_listing_asks_for_what_is_used_and_follows_pages(store: GCSStore, gcs: FakeGCS) -> None:
    """Every page is asked for in turn, with the token of the one before, and only for three fields."""
    for number in range(25):
        gcs.put(f"open/{number:02}", b"{}", metadata={"n": str(number)})
    gcs.put("opposite", b"{}")
    gcs.page_size = 10
    found = await store.list("open/")
    assert [info.name for info in found] == [f"open/{number:02}" for number in range(25)]
    assert [info.metadata["n"] for info in found] == [str(number) for number in range(25)]
    assert [sent.query.get("pageToken") for sent in gcs.sent] == [None, "open/09", "open/19"]
    assert {sent.query["fields"] for sent in gcs.sent} == {"nextPageToken,items(name,generation,metadata)"}


async def test_a_prefix_is_put_before_every_name(gcs: FakeGCS) -> None:
    """Two stores in one bucket do not see each other, and their names are their own."""
    one, other = GCSStore(BUCKET, "team/one"), open_store(f"gs://{BUCKET}/team/one-more")
    generation = await one.write(NAME, b"1", if_generation_match=0, create=[("executions/x.json", b"{}")])
    await other.write(NAME, b"2", if_generation_match=0)
    assert sorted(gcs.objects) == [f"team/one-more/{NAME}", "team/one/executions/x.json", f"team/one/{NAME}"]
    assert [info.name for info in await one.list("")] == ["executions/x.json", NAME]
    assert await one.read(NAME) == (b"1", generation)
    await one.delete(NAME, if_generation_match=generation)
    assert f"team/one/{NAME}" not in gcs.objects
    assert (str(one), str(other)) == (f"gs://{BUCKET}/team/one", f"gs://{BUCKET}/team/one-more")
    await one.aclose()
    await other.aclose()


@pytest.mark.parametrize("data", ["Grüße, 😀".encode(), b"x" * 3_000_000, b"x" * OBJECT_BYTES_MAX])
async def test_content_of_any_kind_and_size_arrives_whole(store: GCSStore, gcs: FakeGCS, data: bytes) -> None:
    """Text of more bytes than characters, and the largest document there may be, are one request each."""
    generation = await store.write(NAME, data, if_generation_match=0)
    assert gcs.objects[NAME].data == data
    assert await store.read(NAME) == (data, generation)
    assert len(gcs.sent) == 2


async def test_a_document_above_the_limit_is_refused_before_anything_is_sent(store: GCSStore, gcs: FakeGCS) -> None:
    """It would be uploaded in several requests, which are repeated after a conflict."""
    large = b"x" * (OBJECT_BYTES_MAX + 1)
    with pytest.raises(StoreError, match=r"runs/a\.json would have 5242880 bytes") as raised:
        await store.write(NAME, large, if_generation_match=0, create=[("executions/x.json", b"{}")])
    with pytest.raises(StoreError, match="executions/y"):
        await store.write(NAME, b"{}", if_generation_match=0, create=[("executions/y.json", large)])
    with pytest.raises(StoreError, match="executions/y"):
        await store.create_all([("executions/x.json", b"{}"), ("executions/y.json", large)])
    assert type(raised.value) is StoreError
    assert gcs.sent == []


async def test_operations_are_counted_by_their_class(store: GCSStore, gcs: FakeGCS) -> None:
    """Prices differ by class, so what a run costs can be counted; tries count as requests."""
    generation = await store.write(NAME, b"{}", if_generation_match=0, create=[("executions/x.json", b"{}")])
    gcs.arm(Fault.UNAVAILABLE, "GET", times=2)
    await store.read(NAME)
    await store.list("")
    await store.delete(NAME, if_generation_match=generation)
    assert store.operations == {"A": 3, "B": 3, "free": 1}
    assert store.operations.total() == len(gcs.sent)


# -- what each answer means ------------------------------------------------------------------------------------------


async def test_412_is_a_conflict(store: GCSStore, gcs: FakeGCS) -> None:
    """Whoever knows another generation is refused, and the object stays."""
    generation = gcs.put(NAME, b"1")
    for wrong in (0, generation - 1):
        with pytest.raises(GenerationConflict, match=f"gs://{BUCKET}/{NAME} has a different generation.*not written"):
            await store.write(NAME, b"2", if_generation_match=wrong)
        with pytest.raises(GenerationConflict, match="not deleted"):
            await store.delete(NAME, if_generation_match=wrong)
    assert gcs.objects[NAME].data == b"1"


async def test_429_to_a_write_is_handed_on(store: GCSStore, gcs: FakeGCS) -> None:
    """An object takes one write a second: the second one was not applied, and is not repeated behind one's back."""
    gcs.write_interval_s = 60
    generation = await store.write(NAME, b"1", if_generation_match=0)
    with pytest.raises(StoreThrottled, match=r"not written: HTTP 429.*rate limit"):
        await store.write(NAME, b"2", if_generation_match=generation)
    assert gcs.objects[NAME].data == b"1"
    assert gcs.count("POST") == 2


@pytest.mark.parametrize("fault", [*UNKNOWN, Fault.LOST_REPLY, Fault.GARBAGE])
async def test_a_write_without_a_usable_answer_is_unknown_and_sent_once(
    store: GCSStore, gcs: FakeGCS, fault: Fault
) -> None:
    """It may have been applied: only who wrote can tell from the document, so it is told and nothing is repeated."""
    gcs.arm(fault, "POST")
    with pytest.raises(StoreUnavailable, match="may have been"):
        await store.write(NAME, b"1", if_generation_match=0)
    assert gcs.count("POST") == 1
    assert (NAME in gcs.objects) is (fault in (Fault.LOST_REPLY, Fault.GARBAGE))


async def test_a_write_that_takes_too_long_is_unknown(gcs: FakeGCS) -> None:
    """Every request has a deadline, and what happens after it nobody knows."""
    store = GCSStore(BUCKET, request_s=0.05)
    held = gcs.arm(Fault.HOLD, "POST")
    with pytest.raises(StoreUnavailable, match=r"\(TimeoutError\)"):
        await store.write(NAME, b"1", if_generation_match=0)
    assert held.reached.is_set()
    held.released.set()
    await store.aclose()


async def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is an outage, which passes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{free.getsockname()[1]}")
        store = GCSStore(BUCKET, retry_base_s=0)
        with pytest.raises(StoreUnavailable, match="ClientConnectorError"):
            await store.read(NAME)
        await store.aclose()


@pytest.mark.parametrize("fault", REFUSED)
async def test_a_refusal_for_good_names_the_bucket_and_the_next_move(
    store: GCSStore, gcs: FakeGCS, fault: Fault
) -> None:
    """What repeating does not mend is not repeated, and the message says what to do."""
    gcs.arm(fault, "POST", times=100)
    gcs.arm(fault, "GET", times=100)
    for operation in (partial(store.write, NAME, b"{}", if_generation_match=0), partial(store.read, NAME)):
        with pytest.raises(StoreError, match=REFUSED[fault]) as raised:
            await operation()
        assert type(raised.value) is StoreError
        assert f"gs://{BUCKET}/{NAME} was not" in str(raised.value)
    assert len(gcs.sent) == (4 if fault is Fault.UNAUTHORIZED else 2), "only a token may be replaced, once"


async def test_a_bucket_that_does_not_exist_is_not_an_object_that_does_not(gcs: FakeGCS) -> None:
    """404 of an object is an answer; 404 of the bucket is a mistake in the settings, to every operation."""
    store = GCSStore("nobodys-bucket")
    for operation in (
        partial(store.read, NAME),
        partial(store.write, NAME, b"{}", if_generation_match=0),
        partial(store.list, ""),
        partial(store.delete, NAME, if_generation_match=1),
        partial(store.create_all, [(NAME, b"{}")]),
    ):
        with pytest.raises(
            StoreError, match="Create bucket 'nobodys-bucket', or correct the URL of the store"
        ) as raised:
            await operation()
        assert type(raised.value) is StoreError
    await store.aclose()


# -- answers that are damaged, or of another form --------------------------------------------------------------------

WHOLE = b'{"n": 1}'
NOT_AN_OBJECT = [b"", b"null", b"[]", b'""', b"5", b"{", b"[" * 100_000]


@pytest.mark.parametrize("body", [b"", b"null", WHOLE[:4], b'{"n": 2}'], ids=["empty", "null", "cut", "changed"])
async def test_a_damaged_read_is_repeated_and_then_unavailable(store: GCSStore, gcs: FakeGCS, body: bytes) -> None:
    """Content that does not fit the checksum of its own answer is no answer: the next read may bring what is stored."""
    generation = gcs.put(NAME, WHOLE)
    gcs.arm(Fault.OTHER_BODY, "GET", times=3, body=body)
    assert await store.read(NAME) == (WHOLE, generation)
    gcs.arm(Fault.OTHER_BODY, "GET", times=4, body=body)
    with pytest.raises(StoreUnavailable, match=rf"no usable answer came about gs://{BUCKET}/{NAME} \(ValueError: the"):
        await store.read(NAME)
    assert gcs.count("GET") == 8


async def test_a_cut_read_without_a_checksum_is_told_by_its_length(store: GCSStore, gcs: FakeGCS) -> None:
    """An endpoint that leaves the checksum out may still say how long the object is."""
    generation = gcs.put(NAME, WHOLE)
    gcs.read_headers = {"X-Goog-Hash": None}
    gcs.arm(Fault.OTHER_BODY, "GET", body=WHOLE[:4])
    assert await store.read(NAME) == (WHOLE, generation)
    assert gcs.count("GET") == 2


async def test_a_read_without_any_header_to_verify_is_taken_unless_it_is_empty(store: GCSStore, gcs: FakeGCS) -> None:
    """Emulators send neither checksum nor stored length; no stored object is empty."""
    generation = gcs.put(NAME, WHOLE)
    gcs.read_headers = dict.fromkeys(("X-Goog-Hash", "X-Goog-Stored-Content-Length", "X-Goog-Stored-Content-Encoding"))
    gcs.arm(Fault.OTHER_BODY, "GET", times=1, body=b"")
    assert await store.read(NAME) == (WHOLE, generation)
    assert gcs.count("GET") == 2


async def test_compressed_object_is_read_decompressed(store: GCSStore, gcs: FakeGCS) -> None:
    """Checksum and stored length are those of the compressed bytes, which never arrive."""
    generation = gcs.put(NAME, WHOLE)
    other = {"X-Goog-Hash": "crc32c=AAAAAA==", "X-Goog-Stored-Content-Length": "99"}
    gcs.read_headers = {"X-Goog-Stored-Content-Encoding": "gzip", **other}
    assert await store.read(NAME) == (WHOLE, generation)
    gcs.read_headers = {"X-Goog-Stored-Content-Encoding": "identity", **other}
    with pytest.raises(StoreUnavailable):
        await store.read(NAME)


@pytest.mark.parametrize("generation", [None, "", "x", "0", "-1"])
async def test_a_read_without_its_generation_is_no_answer(
    store: GCSStore, gcs: FakeGCS, generation: str | None
) -> None:
    """Nothing could be written on condition of such a generation, and 0 would mean that there is no object."""
    gcs.put(NAME, WHOLE)
    gcs.read_headers = {"X-Goog-Generation": generation}
    with pytest.raises(StoreUnavailable, match="no usable answer"):
        await store.read(NAME)


async def test_null_that_is_stored_is_read_as_it_is(store: GCSStore, gcs: FakeGCS) -> None:
    """The checksum fits, so these bytes are what is stored, and their reader has to judge them."""
    generation = gcs.put(NAME, b"null")
    assert await store.read(NAME) == (b"null", generation)
    assert gcs.count("GET") == 1


async def test_an_empty_object_is_not_written(store: GCSStore, gcs: FakeGCS) -> None:
    """It could not be told from an answer that lost its content."""
    with pytest.raises(StoreError, match=rf"gs://{BUCKET}/{NAME} would be empty, so it was not written"):
        await store.write(NAME, b"", if_generation_match=0)
    assert gcs.sent == []


@pytest.mark.parametrize(
    "body", [*NOT_AN_OBJECT, b"{}", *(b'{"generation": %s}' % x for x in (b"[]", b"null", b'"0"'))]
)
async def test_an_answer_to_a_write_of_another_form_is_unknown(store: GCSStore, gcs: FakeGCS, body: bytes) -> None:
    """Without the new generation nobody can tell from the answer whether the object was written."""
    gcs.arm(Fault.OTHER_BODY, "POST", body=body)
    with pytest.raises(StoreUnavailable, match="no usable answer came"):
        await store.write(NAME, WHOLE, if_generation_match=0)
    assert gcs.count("POST") == 1
    assert gcs.objects[NAME].data == WHOLE


ITEM = {"name": NAME, "generation": "1"}


@pytest.mark.parametrize(
    "body",
    [
        *NOT_AN_OBJECT,
        *(
            json.dumps({"items": items}).encode()
            for items in (5, "", {}, None, [None], [5], [[]], [{}], [{"name": NAME}], [ITEM | {"generation": []}])
        ),
        *(json.dumps({"items": [ITEM | {"metadata": metadata}]}).encode() for metadata in (5, [], "x", {"n": []})),
        json.dumps({"items": [], "nextPageToken": 5}).encode(),
    ],
)
async def test_a_listing_of_another_form_is_repeated_and_then_unavailable(
    store: GCSStore, gcs: FakeGCS, body: bytes
) -> None:
    """Runs must not seem to be closed because an answer had no list of them."""
    generation = gcs.put(NAME, WHOLE, metadata={"n": "1"})
    gcs.arm(Fault.OTHER_BODY, "GET", times=3, body=body)
    assert await store.list("runs/") == [(NAME, generation, {"n": "1"})]
    gcs.arm(Fault.OTHER_BODY, "GET", times=4, body=body)
    with pytest.raises(StoreUnavailable, match="no usable answer came"):
        await store.list("runs/")


@pytest.mark.parametrize("body", [*NOT_AN_OBJECT, b"{}"])
async def test_a_delete_needs_nothing_of_its_answer(store: GCSStore, gcs: FakeGCS, body: bytes) -> None:
    """The real answer has no body, so whatever comes instead says no more than its status."""
    generation = gcs.put(NAME, WHOLE)
    gcs.arm(Fault.OTHER_BODY, "DELETE", body=body)
    await store.delete(NAME, if_generation_match=generation)
    assert gcs.objects == {}


@pytest.mark.parametrize("body", [*NOT_AN_OBJECT, b"{}", b'{"error": []}', b'{"error": {"message": []}}'])
@pytest.mark.parametrize("fault", [Fault.CONFLICT, Fault.THROTTLED, Fault.UNAVAILABLE])
async def test_a_refusal_whose_body_is_of_another_form_means_what_its_status_says(
    store: GCSStore, gcs: FakeGCS, fault: Fault, body: bytes
) -> None:
    """The status decides; the body only lends its words to the message."""
    gcs.arm(fault, "POST", body=body)
    expected = {Fault.CONFLICT: GenerationConflict, Fault.THROTTLED: StoreThrottled}.get(fault, StoreUnavailable)
    with pytest.raises(expected):
        await store.write(NAME, WHOLE, if_generation_match=0)


# -- how many requests at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "is_overload"),
    [
        *((fault, True) for fault in (Fault.UNAVAILABLE, Fault.TIMED_OUT, Fault.RESET)),
        *((fault, False) for fault in (Fault.THROTTLED, Fault.CONFLICT, Fault.FORBIDDEN, Fault.GARBAGE)),
    ],
)
async def test_signs_of_overload_let_fewer_requests_out(
    store: GCSStore, gcs: FakeGCS, fault: Fault, *, is_overload: bool
) -> None:
    """5xx, 408 and lost connections are about the bucket; 429 is about one object, and all else is an answer."""
    gcs.arm(fault, "POST", times=40)
    writes = (store.write(f"runs/{n}.json", b"{}", if_generation_match=0) for n in range(40))
    await asyncio.gather(*writes, return_exceptions=True)
    assert (store._api._gate.limit.value < 40) is is_overload


# -- what is repeated ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*UNKNOWN, Fault.THROTTLED])
async def test_safe_requests_are_repeated_after_faults(store: GCSStore, gcs: FakeGCS, fault: Fault) -> None:
    """Reads, listings, creations of what may exist, and deletes outlive three failures."""
    generation = gcs.put(NAME, b"1")
    for method in ("GET", "POST", "DELETE"):
        gcs.arm(fault, method, times=3)
    assert await store.read(NAME) == (b"1", generation)
    gcs.arm(fault, "GET", times=3)
    assert [info.name for info in await store.list("")] == [NAME]
    await store.create_all([("executions/x.json", b"{}")])
    await store.delete(NAME, if_generation_match=generation)
    assert list(gcs.objects) == ["executions/x.json"]


async def test_request_raises_after_four_failed_tries(store: GCSStore, gcs: FakeGCS) -> None:
    """Patience is bounded: after an outage that lasts, the caller decides."""
    gcs.arm(Fault.UNAVAILABLE, "GET", times=100)
    with pytest.raises(StoreUnavailable, match="HTTP 503"):
        await store.read(NAME)
    assert gcs.count("GET") == 4
    gcs.arm(Fault.THROTTLED, "DELETE", times=100)
    with pytest.raises(StoreThrottled):
        await store.delete(NAME, if_generation_match=1)


async def test_a_delete_whose_answer_was_lost_succeeds(store: GCSStore, gcs: FakeGCS) -> None:
    """Sent again, by the HTTP client or by the store, it finds nothing: that is what was wanted."""
    generation = gcs.put(NAME, b"1")
    gcs.arm(Fault.LOST_REPLY, "DELETE")
    await store.delete(NAME, if_generation_match=generation)
    assert gcs.objects == {}
    assert gcs.count("DELETE") == 2


async def test_a_creation_whose_answer_was_lost_succeeds(store: GCSStore, gcs: FakeGCS) -> None:
    """Sent again it is refused by its own first try: the object exists, and no second one is made."""
    gcs.arm(Fault.LOST_REPLY, "POST")
    await store.create_all([(NAME, b"1")])
    assert gcs.objects[NAME].data == b"1"
    assert gcs.count("POST") == 2


async def test_creations_are_bounded(store: GCSStore, gcs: FakeGCS) -> None:
    """Ten thousand records leave connections to the commits beside them."""
    held = gcs.arm(Fault.HOLD, "POST", "executions/", times=1000)
    creating = asyncio.create_task(store.create_all([(f"executions/{n}.json", b"{}") for n in range(200)]))
    while gcs.count("POST") < 64:
        await asyncio.sleep(0)
    await store.write(NAME, b"{}", if_generation_match=0)
    assert gcs.count("POST", "runs/") == 1
    assert gcs.count("POST") - 1 == 64
    held.released.set()
    await creating
    assert len(gcs.objects) == 201


async def test_creations_stop_when_one_fails_for_good(store: GCSStore, gcs: FakeGCS) -> None:
    """Nobody waits for ten thousand refusals."""
    gcs.arm(Fault.FORBIDDEN, "POST", times=1000)
    with pytest.raises(StoreError, match="HTTP 403"):
        await store.create_all([(f"executions/{n}.json", b"{}") for n in range(500)])
    assert gcs.count("POST") <= 64


# -- a write with creations beside it --------------------------------------------------------------------------------

BESIDE = [(f"executions/{letter}.json", b"{}") for letter in "abc"]


async def test_a_write_and_its_creations_go_side_by_side(store: GCSStore, gcs: FakeGCS) -> None:
    """Both together take the time of one: none waits for another, and all are there on return."""
    held = gcs.arm(Fault.HOLD, "POST", times=4)
    writing = asyncio.create_task(store.write(NAME, b"{}", if_generation_match=0, create=BESIDE))
    while gcs.count("POST") < 4:
        await asyncio.sleep(0)
    held.released.set()
    await writing
    assert len(gcs.objects) == 4


async def test_a_conflict_is_told_when_the_creations_have_ended(store: GCSStore, gcs: FakeGCS) -> None:
    """The caller reads and decides again with nothing of the old decision under way."""
    gcs.put(NAME, b"1")
    held = gcs.arm(Fault.HOLD, "POST", "executions/", times=3)
    writing = asyncio.create_task(store.write(NAME, b"{}", if_generation_match=0, create=BESIDE))
    while gcs.count("POST") < 4:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert not writing.done()
    held.released.set()
    with pytest.raises(GenerationConflict):
        await writing
    assert len(gcs.objects) == 4


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.FORBIDDEN, Fault.THROTTLED])
async def test_creations_alone_that_fail_are_unknown(store: GCSStore, gcs: FakeGCS, fault: Fault) -> None:
    """The document was written, so nothing else may be said: read again, and create what is missing."""
    gcs.arm(fault, "POST", "executions/b", times=100)
    with pytest.raises(StoreUnavailable, match=r"runs/a\.json was written, but one or more of the 3 objects") as raised:
        await store.write(NAME, b"1", if_generation_match=0, create=BESIDE)
    assert type(raised.value) is StoreUnavailable
    assert gcs.objects[NAME].data == b"1"


async def test_the_error_of_the_document_comes_first(store: GCSStore, gcs: FakeGCS) -> None:
    """What happened to the document decides what the caller does."""
    gcs.arm(Fault.THROTTLED, "POST", NAME)
    gcs.arm(Fault.UNAVAILABLE, "POST", "executions/", times=100)
    with pytest.raises(StoreThrottled):
        await store.write(NAME, b"1", if_generation_match=0, create=BESIDE)


async def test_a_cancelled_write_leaves_nothing_under_way(store: GCSStore, gcs: FakeGCS) -> None:
    """Its requests end with it, those beside it too."""
    held = gcs.arm(Fault.HOLD, "POST", times=100)
    writing = asyncio.create_task(store.write(NAME, b"{}", if_generation_match=0, create=BESIDE))
    while gcs.count("POST") < 4:
        await asyncio.sleep(0)
    before = asyncio.all_tasks() - {writing}
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not {task for task in asyncio.all_tasks() - before if "work" in repr(task.get_coro())}
    held.released.set()


# -- credentials -----------------------------------------------------------------------------------------------------


class FakeTokens:
    """A metadata server that gives out access tokens ``token-1``, ``token-2`` …"""

    def __init__(self) -> None:
        self.count = 0
        self.status = 200
        self.asked = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.released.wait()
        self.count += 1
        answer = {"access_token": f"token-{self.count}", "expires_in": 3600, "token_type": "Bearer"}
        return web.json_response(answer, status=self.status)


@pytest.fixture
async def tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeTokens]:
    """Credentials of this process are a service account's, whose tokens come from a fake."""
    fake = FakeTokens()
    async with serving(anything(fake.handle)) as url:
        credentials = {
            "type": "authorized_user",
            "client_id": "id",
            "client_secret": "secret",
            "refresh_token": "refresh",
            "token_uri": f"{url}/token",
        }
        path = tmp_path / "credentials.json"
        path.write_text(json.dumps(credentials))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        yield fake
        fake.released.set()


@pytest.fixture
async def guarded(gcs: FakeGCS, tokens: FakeTokens) -> AsyncIterator[GCSStore]:
    """A store at an endpoint that wants a token."""
    gcs.token = "token-1"
    store = GCSStore(BUCKET, api_url=gcs.url, retry_base_s=0)
    yield store
    await store.aclose()


async def test_one_token_serves_all_requests(guarded: GCSStore, gcs: FakeGCS, tokens: FakeTokens) -> None:
    """Requests that begin together wait for one fetch, and later ones for none."""
    await asyncio.gather(*(guarded.read(f"runs/{n}.json") for n in range(20)))
    await guarded.list("")
    assert tokens.count == 1
    assert {sent.headers["Authorization"] for sent in gcs.sent} == {"Bearer token-1"}


async def test_a_cancelled_caller_does_not_cancel_the_fetch_of_others(guarded: GCSStore, tokens: FakeTokens) -> None:
    """The one that began the fetch goes, and those who wait for it get their answer."""
    tokens.released.clear()
    first = asyncio.create_task(guarded.read(NAME))
    await tokens.asked.wait()
    others = [asyncio.create_task(guarded.read(NAME)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    tokens.released.set()
    assert await asyncio.gather(*others) == [None] * 5
    assert tokens.count == 1


async def test_a_token_that_is_refused_is_replaced_once(guarded: GCSStore, gcs: FakeGCS, tokens: FakeTokens) -> None:
    """401 was not applied, so even a conditional write is sent again with a new token; then it is told."""
    await guarded.read(NAME)
    gcs.token = "token-2"
    await guarded.write(NAME, b"1", if_generation_match=0)
    assert tokens.count == 2
    gcs.token = "nobody's"
    with pytest.raises(StoreError, match="HTTP 401"):
        await guarded.read(NAME)
    assert tokens.count == 3


async def test_tokens_that_do_not_come_are_no_answer_of_the_bucket(
    guarded: GCSStore, gcs: FakeGCS, tokens: FakeTokens
) -> None:
    """404 of a token server is not a missing object: refused for good, or unavailable while its trouble passes."""
    tokens.status = 503
    with pytest.raises(StoreUnavailable, match="no access token"):
        await guarded.read(NAME)
    tokens.status = 404
    with pytest.raises(StoreError, match="no access token") as raised:
        await guarded.read(NAME)
    assert type(raised.value) is StoreError
    assert gcs.sent == []
    tokens.status = 200
    gcs.token = f"token-{tokens.count + 1}"
    assert await guarded.read(NAME) is None


async def test_a_token_is_renewed_ahead_of_time_and_kept_meanwhile(tokens: FakeTokens) -> None:
    """At half of its life the next is fetched beside the requests; when that fails, the old one goes on serving."""
    now = 1000.0
    token = AccessToken(now=lambda: now)
    assert await token.get() == "token-1"
    now += 1801
    tokens.asked.clear()
    tokens.status = 503
    assert await token.get() == "token-1"
    await asyncio.wait_for(tokens.asked.wait(), 5)
    while token._fetch is not None:
        await asyncio.sleep(0.001)
    assert await token.get() == "token-1"
    assert tokens.count == 2, "a failed renewal is not repeated with every request"
    now += 61
    tokens.status = 200
    assert await token.get() == "token-1"
    while token._fetch is not None:
        await asyncio.sleep(0.001)
    assert await token.get() == "token-3"
    await token.aclose()


async def test_credentials_that_do_not_exist_are_told(gcs: FakeGCS, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator needs none, even where they are named and missing; elsewhere the message says how to get some."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    emulated = GCSStore(BUCKET)
    assert await emulated.read(NAME) is None
    await emulated.aclose()
    store = GCSStore(BUCKET, api_url=gcs.url)
    with pytest.raises(StoreError, match=r"nowhere/key\.json.*GOOGLE_APPLICATION_CREDENTIALS"):
        await store.read(NAME)
    await store.aclose()


# -- opening and closing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("gs://acme-state", "gs://acme-state"),
        ("gs://acme-state/", "gs://acme-state"),
        ("gs://acme.state_1/team/prod-2.v1", "gs://acme.state_1/team/prod-2.v1"),
        ("gs://acme-state/prod/", "gs://acme-state/prod"),
    ],
)
async def test_a_url_names_bucket_and_prefix(url: str, shown: str) -> None:
    """What was opened says so, without the slash at the end."""
    assert str(open_store(url)) == shown


@pytest.mark.parametrize(
    "url",
    ["gs://", "gs:///x", "gs://UPPER", "gs://ab", "gs://acme//x", "gs://acme/../x", "gs://acme/a b", "gs://acme?x"],
)
def test_a_url_of_another_form_is_refused(url: str) -> None:
    """Nothing is opened under a name that cannot be meant."""
    with pytest.raises(StoreUrlError, match="gs://bucket/prefix"):
        Orchestrator(url)


async def test_an_emulator_is_named_with_or_without_scheme(gcs: FakeGCS, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is set either way by other programs."""
    for host in (gcs.url, f"{gcs.url}/", gcs.url.removeprefix("http://")):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        store = GCSStore(BUCKET)
        assert await store.read(NAME) is None
        await store.aclose()
    assert gcs.count("GET") == 3


async def test_closing_finishes_what_was_accepted(gcs: FakeGCS) -> None:
    """A write that is under way is answered, a new one is refused, and closing again does nothing."""
    store = GCSStore(BUCKET)
    held = gcs.arm(Fault.HOLD, "POST")
    writing = asyncio.create_task(store.write(NAME, b"1", if_generation_match=0))
    await held.reached.wait()
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    held.released.set()
    assert await writing == gcs.objects[NAME].generation
    await closing
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.read(NAME)


async def test_closing_leaves_for_those_who_joined(gcs: FakeGCS) -> None:
    """Their work is free at once."""
    store = GCSStore(BUCKET)
    await store.join("1" * 32)
    assert list(gcs.objects) == [f"alive/{'1' * 32}"]
    await store.aclose()
    assert gcs.objects == {}


async def test_a_store_that_does_not_answer_can_be_closed(gcs: FakeGCS) -> None:
    """Who joined is found out by the others; closing says so in the log and raises nothing."""
    store = GCSStore(BUCKET, retry_base_s=0)
    await store.join("1" * 32)
    gcs.arm(Fault.UNAVAILABLE, "DELETE", times=100)
    await store.aclose()


# -- fake-gcs-server -------------------------------------------------------------------------------------------------


async def test_fake_gcs_server_still_ignores_conditions_on_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a newer one heeds them, the contracts that are skipped for it can run."""
    with gcs_server(tmp_path) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = GCSStore(SERVER_BUCKET)
        generation = await store.write(NAME, b"1", if_generation_match=0)
        await store.delete(NAME, if_generation_match=generation - 1)
        assert await store.read(NAME) is None
        await store.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("operation", ["write", "create", "read", "list", "delete"])
async def test_a_redirect_is_told_as_one_and_not_followed(
    monkeypatch: pytest.MonkeyPatch, status: int, operation: str
) -> None:
    """A proxy that sends requests to its sign-in page is named, and its page is no answer of a store."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/sign-in":
            return web.Response(text="<html>", content_type="text/html")
        return web.Response(status=status, headers={"Location": f"{url}/sign-in?token=hidden"})

    async with serving(anything(handle)) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = GCSStore(BUCKET, retry_base_s=0)
        operations: dict[str, Callable[[], Awaitable[object]]] = {
            "write": lambda: store.write(NAME, b"{}", if_generation_match=0),
            "create": lambda: store.create_all([(NAME, b"{}")]),
            "read": lambda: store.read(NAME),
            "list": lambda: store.list("runs/"),
            "delete": lambda: store.delete(NAME, if_generation_match=1),
        }
        with pytest.raises(StoreError, match=rf"HTTP {status}.*redirect to host '127.0.0.1'.*proxy.*sign-in") as raised:
            await operations[operation]()
        await store.aclose()
    assert type(raised.value) is StoreError
    assert "hidden" not in str(raised.value)
    assert "name of the bucket" not in str(raised.value)
    assert "/sign-in" not in asked
    assert len(asked) == 1


@pytest.mark.parametrize(
    "garbage", [b"HTP/9 hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nbad header\x00: 1\r\n\r\n", b"\x16\x03\x01 tls"]
)
async def test_an_answer_that_is_no_http_is_no_answer(monkeypatch: pytest.MonkeyPatch, garbage: bytes) -> None:
    """A proxy that garbles the status line or a header tells nothing: reads are repeated, and a write is unknown."""
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(garbage)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        store = GCSStore(BUCKET, retry_base_s=0)
        with pytest.raises(StoreUnavailable, match="no usable answer"):
            await store.read(NAME)
        assert requests >= 4
        with pytest.raises(StoreUnavailable, match="may have been"):
            await store.write(NAME, b"{}", if_generation_match=0)
        await store.aclose()
