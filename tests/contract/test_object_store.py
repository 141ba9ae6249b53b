"""What every `ObjectStore` does alike."""

import asyncio

import pytest

from aiorch.errors import GenerationConflict
from aiorch.ports.store import ObjectStore

LARGE = 3_000_000
STRANGE_NAMES = [
    "runs/100%.json",
    "runs/100_.json",
    "runs/it's.json",
    'runs/"quoted".json',
    "runs/back\\slash.json",
    "runs/[a-z]*?.json",
    "runs/two words.json",
    "runs/naïve.json",
    "runs/😀.json",
    "runs/\U0010ffff.json",
    "runs/\uffff.json",
    "runs/;DROP TABLE objects;--.json",
]


async def test_an_object_that_was_never_written_reads_as_none(store: ObjectStore) -> None:
    """Nothing there is an answer, not an error."""
    assert await store.read("runs/none.json") is None


async def test_read_returns_content_and_generation_of_the_write(store: ObjectStore) -> None:
    """The generation that a write returns is the one that a read shows, and it is not 0."""
    generation = await store.write("runs/a.json", b"{}", if_generation_match=0)
    assert generation != 0
    assert await store.read("runs/a.json") == (b"{}", generation)


async def test_creating_what_exists_is_a_conflict(store: ObjectStore) -> None:
    """Generation 0 means "must not exist yet": the second creator loses and changes nothing."""
    generation = await store.write("runs/a.json", b"first", if_generation_match=0, metadata={"by": "first"})
    with pytest.raises(GenerationConflict, match=r"runs/a\.json"):
        await store.write("runs/a.json", b"second", if_generation_match=0, metadata={"by": "second"})
    assert await store.read("runs/a.json") == (b"first", generation)
    assert [info.metadata for info in await store.list("runs/")] == [{"by": "first"}]


async def test_an_update_needs_the_present_generation(store: ObjectStore) -> None:
    """Only whoever saw the last write may write: an older generation is refused for ever."""
    first = await store.write("runs/a.json", b"1", if_generation_match=0)
    second = await store.write("runs/a.json", b"2", if_generation_match=first)
    assert second != first
    with pytest.raises(GenerationConflict):
        await store.write("runs/a.json", b"3", if_generation_match=first)
    assert await store.read("runs/a.json") == (b"2", second)


async def test_an_update_of_what_does_not_exist_is_a_conflict(store: ObjectStore) -> None:
    """A generation that is gone with its object does not create the object again."""
    generation = await store.write("runs/a.json", b"1", if_generation_match=0)
    await store.delete("runs/a.json", if_generation_match=generation)
    with pytest.raises(GenerationConflict):
        await store.write("runs/a.json", b"2", if_generation_match=generation)
    assert await store.read("runs/a.json") is None


async def test_a_generation_is_never_used_twice(store: ObjectStore) -> None:
    """Not for another object, not after a delete: an old generation can never match by accident."""
    seen = []
    for _ in range(3):
        seen.append(await store.write("runs/a.json", b"1", if_generation_match=0))
        seen.append(await store.write("runs/b.json", b"1", if_generation_match=0))
        seen.append(await store.write("runs/a.json", b"1", if_generation_match=seen[-2]))
        await store.delete("runs/a.json", if_generation_match=seen[-1])
        await store.delete("runs/b.json", if_generation_match=seen[-2])
        await store.create_all([("runs/c.json", b"1")])
        created = await store.read("runs/c.json")
        assert created is not None
        seen.append(created.generation)
        await store.delete("runs/c.json", if_generation_match=created.generation)
    assert len(set(seen)) == len(seen) == 12


async def test_a_delete_needs_the_present_generation(store: ObjectStore) -> None:
    """A delete that knows an older generation leaves the object; the right one removes it."""
    first = await store.write("open/a", b"1", if_generation_match=0)
    second = await store.write("open/a", b"2", if_generation_match=first)
    for wrong in (first, 0):
        with pytest.raises(GenerationConflict):
            await store.delete("open/a", if_generation_match=wrong)
    assert await store.read("open/a") == (b"2", second)
    await store.delete("open/a", if_generation_match=second)
    assert await store.read("open/a") is None
    assert await store.list("open/") == []


async def test_deleting_what_is_gone_is_no_error(store: ObjectStore) -> None:
    """A delete may be repeated when its answer was lost, and an object may be created again afterwards."""
    generation = await store.write("open/a", b"1", if_generation_match=0)
    await store.delete("open/a", if_generation_match=generation)
    await store.delete("open/a", if_generation_match=generation)
    await store.delete("open/never", if_generation_match=0)
    assert await store.write("open/a", b"2", if_generation_match=0) != generation


async def test_create_all_leaves_what_exists(store: ObjectStore) -> None:
    """It creates the missing ones and touches neither content nor generation nor metadata of the others."""
    before = await store.write("executions/b.json", b"old", if_generation_match=0, metadata={"status": "known"})
    await store.create_all([(f"executions/{letter}.json", b"new") for letter in "abc"])
    await store.create_all([(f"executions/{letter}.json", b"newer") for letter in "cd"])
    assert await store.read("executions/b.json") == (b"old", before)
    contents = {info.name: await store.read(info.name) for info in await store.list("executions/")}
    assert {name: stored and stored.data for name, stored in contents.items()} == {
        "executions/a.json": b"new",
        "executions/b.json": b"old",
        "executions/c.json": b"new",
        "executions/d.json": b"newer",
    }
    listed = await store.list("executions/")
    assert [dict(info.metadata) for info in listed] == [{}, {"status": "known"}, {}, {}]
    assert len({info.generation for info in listed}) == 4


async def test_create_all_of_nothing_does_nothing(store: ObjectStore) -> None:
    """An empty batch is no special case for the caller."""
    await store.create_all([])
    assert await store.list("") == []


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1_000])
async def test_create_all_creates_every_single_one(store: ObjectStore, count: int) -> None:
    """However an adapter cuts a batch into pieces, none falls between them."""
    objects = [(f"executions/{number:04}.json", b"%d" % number) for number in range(count)]
    await store.create_all(objects)
    assert [info.name for info in await store.list("executions/")] == [name for name, _ in objects]
    stored = await asyncio.gather(*(store.read(name) for name, _ in objects))
    assert [each and each.data for each in stored] == [data for _, data in objects]


async def test_objects_from_create_all_can_be_updated(store: ObjectStore) -> None:
    """An object is the same thing however it came to be."""
    await store.create_all([("executions/a.json", b"1")])
    stored = await store.read("executions/a.json")
    assert stored is not None
    await store.write("executions/a.json", b"2", if_generation_match=stored.generation)
    with pytest.raises(GenerationConflict):
        await store.write("executions/a.json", b"3", if_generation_match=stored.generation)


async def test_a_write_creates_what_belongs_to_it(store: ObjectStore) -> None:
    """A commit and its new records are one call; records that exist stay as they are, generations differ."""
    before = await store.write("executions/b.json", b"old", if_generation_match=0, metadata={"status": "known"})
    records = [("executions/a.json", b"new"), ("executions/b.json", b"new")]
    generation = await store.write("runs/a.json", b"{}", if_generation_match=0, create=records)
    assert await store.read("runs/a.json") == (b"{}", generation)
    assert await store.read("executions/b.json") == (b"old", before)
    created = await store.read("executions/a.json")
    assert created is not None
    assert created.data == b"new"
    assert len({created.generation, generation, before}) == 3


async def test_a_refused_write_keeps_its_object_whatever_it_creates(store: ObjectStore) -> None:
    """Creating besides does not soften the condition: the object stays, and what exists stays."""
    generation = await store.write("runs/a.json", b"1", if_generation_match=0)
    await store.create_all([("executions/a.json", b"old")])
    with pytest.raises(GenerationConflict):
        await store.write("runs/a.json", b"2", if_generation_match=0, create=[("executions/a.json", b"new")])
    assert await store.read("runs/a.json") == (b"1", generation)
    stored = await store.read("executions/a.json")
    assert stored is not None
    assert stored.data == b"old"


async def test_a_listing_is_ordered_and_carries_generations_and_metadata(store: ObjectStore) -> None:
    """One listing shows what a caller wants to know of many objects, in order of their names."""
    generations = {}
    for name in ("runs/b.json", "runs/a.json", "runs/a-1.json", "runs/B.json"):
        metadata = {"status": "Running", "dag": f'the "{name}" ünit'}
        generations[name] = await store.write(name, b"x", if_generation_match=0, metadata=metadata)
    await store.write("open/b", b"x", if_generation_match=0)
    listed = await store.list("runs/")
    assert [info.name for info in listed] == sorted(generations)
    assert {info.name: info.generation for info in listed} == generations
    assert all(info.metadata == {"status": "Running", "dag": f'the "{info.name}" ünit'} for info in listed)


async def test_an_update_replaces_the_metadata(store: ObjectStore) -> None:
    """A listing shows the metadata of the last write only; without any there is none."""
    generation = await store.write("runs/a.json", b"1", if_generation_match=0, metadata={"status": "Running", "x": "y"})
    generation = await store.write("runs/a.json", b"2", if_generation_match=generation, metadata={"status": "Failed"})
    assert [dict(info.metadata) for info in await store.list("runs/")] == [{"status": "Failed"}]
    await store.write("runs/a.json", b"3", if_generation_match=generation)
    assert [dict(info.metadata) for info in await store.list("runs/")] == [{}]


async def test_a_prefix_is_taken_literally(store: ObjectStore) -> None:
    """No character of a prefix is a wildcard, and names that only come close are not listed."""
    names = [*STRANGE_NAMES, "runs", "runs.json", "runs0", "RUNS/a.json", "runr/z.json"]
    await store.create_all([(name, b"1") for name in names])
    for prefix in ["", "runs", "runs/", "runs/100%", "runs/100_", "runs/\U0010ffff", "runs/\uffff", "runs/[a-z]*", "x"]:
        listed = [info.name for info in await store.list(prefix)]
        assert listed == sorted(name for name in names if name.startswith(prefix)), prefix


@pytest.mark.parametrize("name", STRANGE_NAMES)
async def test_any_character_may_be_in_a_name(store: ObjectStore, name: str) -> None:
    """Names are data: written, found, protected by generations, listed and deleted like any other."""
    generation = await store.write(name, b"1", if_generation_match=0)
    with pytest.raises(GenerationConflict):
        await store.write(name, b"2", if_generation_match=0)
    generation = await store.write(name, b"2", if_generation_match=generation)
    assert await store.read(name) == (b"2", generation)
    assert [(info.name, info.generation) for info in await store.list(name)] == [(name, generation)]
    await store.delete(name, if_generation_match=generation)
    assert await store.list("") == []


@pytest.mark.parametrize(
    "data",
    [b"\0", bytes(range(256)), b"\xff\xfe\0not text", b"'; --", bytes(range(256)) * (LARGE // 256)],
    ids=["zero", "every byte", "not text", "quotes", "large"],
)
async def test_content_comes_back_byte_for_byte(store: ObjectStore, data: bytes) -> None:
    """Content is bytes, of any value and of a document's size, on every way in."""
    await store.create_all([("executions/a.json", data)])
    generation = await store.write("runs/a.json", b"shorter", if_generation_match=0)
    generation = await store.write("runs/a.json", data, if_generation_match=generation)
    assert await store.read("runs/a.json") == (data, generation)
    created = await store.read("executions/a.json")
    assert created is not None
    assert created.data == data


async def test_of_fifty_concurrent_creators_one_wins(store: ObjectStore) -> None:
    """A race for a name has exactly one winner, and its content is what stays."""

    async def create(number: int) -> tuple[int, int] | None:
        try:
            return number, await store.write("runs/a.json", b"%d" % number, if_generation_match=0)
        except GenerationConflict:
            return None

    winners = [won for won in await asyncio.gather(*map(create, range(50))) if won]
    assert len(winners) == 1
    assert await store.read("runs/a.json") == (b"%d" % winners[0][0], winners[0][1])


async def test_concurrent_increments_lose_none(store: ObjectStore) -> None:
    """Read, change, write on condition, again on conflict: 8 workers with 25 increments each make exactly 200."""
    await store.write("counter", b"0", if_generation_match=0)
    conflicts = 0

    async def increment() -> None:
        nonlocal conflicts
        while True:
            stored = await store.read("counter")
            assert stored is not None
            try:
                await store.write("counter", b"%d" % (int(stored.data) + 1), if_generation_match=stored.generation)
            except GenerationConflict:
                conflicts += 1
            else:
                return

    async def work() -> None:
        for _ in range(25):
            await increment()

    await asyncio.gather(*(work() for _ in range(8)))
    stored = await store.read("counter")
    assert stored is not None
    assert stored.data == b"200"
    assert conflicts > 0, "the workers never met, so nothing was shown"


async def test_a_conflict_does_not_disturb_operations_beside_it(store: ObjectStore) -> None:
    """Of operations that are under way together, each succeeds or fails for itself."""
    taken = await store.write("runs/0.json", b"taken", if_generation_match=0)
    outcomes = await asyncio.gather(
        *(store.write(f"runs/{number}.json", b"new", if_generation_match=0) for number in range(20)),
        store.delete("runs/0.json", if_generation_match=taken + 1_000_000_000),
        store.create_all([("executions/a.json", b"new")]),
        return_exceptions=True,
    )
    assert [index for index, each in enumerate(outcomes) if isinstance(each, GenerationConflict)] == [0, 20]
    assert len(set(outcomes[1:20])) == 19
    assert await store.read("runs/0.json") == (b"taken", taken)
    assert len(await store.list("")) == 21


async def test_the_version_of_a_store_tells_of_every_change(store: ObjectStore) -> None:
    """A store that has a version has another one after each change, and the same one after reads."""
    versions = [await store.version()]
    generation = await store.write("open/r", b"1", if_generation_match=0)
    versions.append(await store.version())
    generation = await store.write("open/r", b"2", if_generation_match=generation)
    versions.append(await store.version())
    await store.create_all([("executions/a", b"1")])
    versions.append(await store.version())
    await store.delete("open/r", if_generation_match=generation)
    versions.append(await store.version())
    await store.read("executions/a")
    await store.list("")
    assert await store.version() == versions[-1]
    assert versions == [None] * 5 or len(set(versions)) == 5


async def test_of_a_concurrent_write_and_delete_one_wins(store: ObjectStore) -> None:
    """Both name the same generation, so only one can happen, whichever comes first."""
    for number in range(10):
        name = f"open/{number}"
        generation = await store.write(name, b"1", if_generation_match=0)
        delete = store.delete(name, if_generation_match=generation)
        write = store.write(name, b"2", if_generation_match=generation)
        pair = [delete, write] if number % 2 else [write, delete]
        outcomes = await asyncio.gather(*pair, return_exceptions=True)
        assert sum(isinstance(outcome, GenerationConflict) for outcome in outcomes) == 1
