"""The target for programs."""

import asyncio
import json
import shutil

from aiorch import Failure, Settings, Task, TaskContext
from aiorch.ports.target import Answer, Failed, Succeeded
from aiorch_program.settings import Programs

RESULT_BYTES_MAX = 1024 * 1024


class ProgramTarget:
    """Runs programs, without a shell."""

    def __init__(self, own: Programs, settings: Settings) -> None:  # noqa: ARG002  as of every kind
        self._folder = own.folder

    def resolve(self, task: Task) -> str | None:
        """Say why this process cannot run the program of *task*, or `None` if it can."""
        if shutil.which(task.target_name) is None:
            return f"there is no program {task.target_name!r} on this machine"
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        """Run the program to its end. A timeout, a cancel and the end of the process cancel this, and kill it."""
        program = await asyncio.create_subprocess_exec(
            task.target_name,
            *task.options["arguments"],
            cwd=self._folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await program.communicate(json.dumps(context.parameters).encode())
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
        if program.returncode != 0:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2] or "no message"
            return Failed(Failure.of(f"Exit{program.returncode}", f"{task.target_name}: {last}"))
        if len(output) > RESULT_BYTES_MAX:
            return Failed(Failure.of("ResultTooLarge", f"{task.target_name} printed {len(output):,} bytes"))
        if task.options["output"] == "text":
            return Succeeded(json.dumps(output.decode(errors="replace")).encode())
        try:
            return Succeeded(json.dumps(json.loads(output)).encode())
        except ValueError as error:
            return Failed(Failure.of("ResultNotJSON", f"{task.target_name} printed no JSON: {error}"))

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """Nothing is left to stop: the program was killed when its launch was cancelled."""

    async def aclose(self) -> None:
        """Nothing is held."""
