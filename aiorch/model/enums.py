"""The closed sets of the language. Values are what stands in definitions and in stored documents."""

from enum import StrEnum


class NodeTypes(StrEnum):
    """Kinds of nodes that come with aiorch. Another kind is a plain text."""

    TASK = "Task"
    PARALLEL = "Parallel"
    PASS = "Pass"  # noqa: S105  no password
    FAIL = "Fail"


class TargetTypes(StrEnum):
    """What a task launches; ``Start`` is the type of start events and never of a task."""

    START = "Start"
    FUNCTION = "Function"
    CLOUD_FUNCTION = "CloudFunction"
    DATAFLOW = "Dataflow"


class DataflowTemplateType(StrEnum):
    """How a Dataflow job is packaged."""

    CLASSIC = "Classic"
    FLEX = "Flex"


class OnFailure(StrEnum):
    """What a ``Parallel`` does with its other branches when one has failed."""

    FAIL_FAST = "fail_fast"
    WAIT = "wait"


class OnLost(StrEnum):
    """What becomes of an attempt whose outcome will never be known."""

    RETRY = "retry"
    FAIL = "fail"


class OnNoResult(StrEnum):
    """What becomes of a call that succeeded, as an event says, and whose answer with the result was lost."""

    ACCEPT = "accept"
    """The task completes, and its result is null."""

    CALL_AGAIN = "call_again"
    """The same execution is sent again, under its execution id."""

    FAIL = "fail"
