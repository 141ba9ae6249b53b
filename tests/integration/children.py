"""Child processes for tests: Python code given as text, spoken to through pipes."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process


async def child(code: str, *arguments: object) -> Process:
    """Start *code* in an interpreter of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *map(str, arguments), stdin=PIPE, stdout=PIPE
    )


async def finish(process: Process, text: bytes = b"") -> bytes:
    """Send *text*, wait for a good end, and return what it printed."""
    output, _ = await process.communicate(text)
    assert process.returncode == 0
    return output


async def kill(process: Process) -> bytes:
    """Kill it as nothing can prevent, and return what it had printed."""
    process.kill()
    output, _ = await process.communicate()
    return output
