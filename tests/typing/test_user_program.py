"""The program that type checkers read does what it says, so that its types are those of a program that works."""

from aiorch import RunStatus
from tests.typing.user_program import main


async def test_the_program_works() -> None:
    """The program runs the whole public API: an orchestrator, a client, and an executor of its own."""
    result, run_ids, stored, starts = await main()
    assert (result.status, result.results["Total"], result.results["Call"]) == (RunStatus.COMPLETED, 6, "billed")
    assert "one" in run_ids
    assert stored.run.status is RunStatus.COMPLETED
    assert starts == ["Total", "Call"]
