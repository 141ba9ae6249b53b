"""Versions of run documents: a replica of 0.1 gives back the messages of a run that it cannot carry out."""

from typing import Any

import msgspec
import pytest

from aiorch.core.run_events import RunStarted
from aiorch.errors import DocumentError, NewerSchemaError
from aiorch.model.run_document import HEADER, StartCommand
from tests.definitions import call, chain, job, parallel, task
from tests.golden_decoder import decode_document, decode_start_command
from tests.unit.test_fold import Scene, dag_of

KNOWN_TO_0_1 = chain(A=task(), P=parallel(chain(B=call()), chain(C=job())))
NEWER_KEYS = {"inputs": {"x": {"default": 1}}, "labels": {"team": "data"}}
NEWER = {"Pass": {"type": "Pass", "result": 1, "end": True}, "Fail": {"type": "Fail", "error": "NoOrders"}}


def started(definition: dict[str, Any]) -> Scene:
    return Scene(dag_of(definition)).fold(RunStarted())


def document_of(scene: Scene) -> bytes:
    return scene.run.encode(scene.run.header, {})[0]


def marker_of(scene: Scene) -> bytes:
    header = scene.run.header
    return msgspec.json.encode(
        StartCommand(
            schema_version=scene.dag.schema_version,
            run_id=header.run_id,
            nonce=header.nonce,
            dag=header.dag,
            definition=header.definition,
            input=header.input,
            created_at=header.created_at,
        )
    )


def test_a_run_that_0_1_can_carry_out_is_written_for_it() -> None:
    """Tasks of the three targets and a Parallel need the first version, and 0.1 reads document and marker."""
    scene = started(KNOWN_TO_0_1)
    assert scene.run.header.schema_version == 1
    decode_document(document_of(scene))
    decode_start_command(marker_of(scene))


@pytest.mark.parametrize("key", NEWER_KEYS)
@pytest.mark.parametrize("is_empty", [False, True])
def test_a_run_of_a_newer_key_is_left_alone_by_0_1(key: str, *, is_empty: bool) -> None:
    """A definition with inputs or labels, be they empty, cannot be built by 0.1, so the version says so."""
    scene = started({**KNOWN_TO_0_1, key: {} if is_empty else NEWER_KEYS[key]})
    assert scene.run.header.schema_version == 2
    with pytest.raises(NewerSchemaError):
        decode_document(document_of(scene))
    with pytest.raises(NewerSchemaError):
        decode_start_command(marker_of(scene))


def test_labels_stand_in_the_header_of_a_run_that_has_some() -> None:
    """`$run` has the labels of the definition, and no field without any."""
    labelled = msgspec.json.decode(document_of(started({**KNOWN_TO_0_1, "labels": {"team": "data"}})))
    assert labelled[HEADER]["labels"] == {"team": "data"}
    assert "labels" not in msgspec.json.decode(document_of(started(KNOWN_TO_0_1)))[HEADER]
    assert "labels" not in msgspec.json.decode(document_of(started({**KNOWN_TO_0_1, "labels": {}})))[HEADER]


@pytest.mark.parametrize("kind", NEWER)
def test_a_run_of_a_newer_kind_of_node_is_left_alone_by_0_1(kind: str) -> None:
    """The version in header and marker tells 0.1 to give messages back; without it, 0.1 would park them."""
    scene = started(chain(A=task(), P=parallel({"start": "X", "steps": {"X": NEWER[kind]}})))
    assert scene.run.header.schema_version == 2
    with pytest.raises(NewerSchemaError):
        decode_document(document_of(scene))
    with pytest.raises(NewerSchemaError):
        decode_start_command(marker_of(scene))
    document = msgspec.json.decode(document_of(scene))
    document[HEADER]["schema_version"] = 1
    with pytest.raises(DocumentError) as parked:
        decode_document(msgspec.json.encode(document))
    assert not isinstance(parked.value, NewerSchemaError)
