"""`aiorch start`."""
# ruff: noqa: A002, PLC0415, PLR0913, PLR0917  imports and arguments: see `aiorch.cli.main`

from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from aiorch.cli.client import ask, open_client, patience
from aiorch.cli.completion import definition_files
from aiorch.cli.options import Input, input_option, is_file, option, require_file, run_id_option, store_option
from aiorch.cli.output import EPILOG, OK, STORE_FAILED, print_result, say
from aiorch.cli.values import ValuesCommand, input_for, values_argument


@click.command(cls=ValuesCommand, epilog=EPILOG)
@click.argument("dag", required=False, shell_complete=definition_files)
@values_argument
@option("--topic", metavar="TOPIC", help="Publish a start message to projects/PROJECT/topics/NAME instead.")
@input_option
@run_id_option
@store_option
@click.pass_context
def start(
    ctx: click.Context,
    dag: str | None,
    values: Sequence[str],
    topic: str | None,
    input: Input | None,
    run_id: str | None,
    store: str,
) -> int:
    """
    Store the start of a run and print the run id; a process that serves the store carries out the run.

    DAG is a definition file. With --topic, a start message is published, and DAG is the name of a DAG that the receiver
    serves; it may be left out if the receiver serves only one.

    NAME=VALUE gives one input of the run: a value is read as the definition declares the input. Without a declaration,
    and with --topic, a value is read as JSON if it is JSON, else as text.
    """
    if topic is not None:
        if ctx.get_parameter_source("store") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                "the receiver of a message has its own store, so no message was published: give --topic or --store."
            )
        if dag is not None and "=" in dag:  # no name of a DAG has this character
            values, dag = (dag, *values), None
        return _publish_start(topic, dag, values, input, run_id)
    if dag is None:
        raise click.UsageError("no definition file and no --topic was given, so no run was started: give one of them.")
    if not is_file(dag):
        raise click.UsageError(
            f"{dag!r} is no definition file, so no run was started: give the path of a definition file, or, to start a "
            f"DAG that the service serves by its name, the --topic of its messages."
        )
    require_file(dag, "no run was started")
    if store == "memory:":
        raise click.UsageError("a store in memory ends with this command, so no run was started: use `aiorch run`.")
    from aiorch.client import build

    built = build(dag)
    value = input_for(built, values, input)

    async def begin() -> str:
        async with open_client(store, create=True) as client, patience(store):
            return (await client.start(built, input=value, run_id=run_id)).run_id

    print_result(ask(begin()))
    return OK


def _publish_start(topic: str, dag: str | None, values: Sequence[str], input: Input | None, run_id: str | None) -> int:
    from time import time

    from aiorch.model.names import run_id as checked
    from aiorch.sources.publish import PublishError, publish
    from aiorch.system.chance import SystemEntropy

    if dag is not None and is_file(dag):
        raise click.UsageError(
            f"{dag!r} is a file, so no message was published: a message names a DAG that its receiver serves, "
            f"like {Path(dag).stem!r}. Without --topic (AIORCH_START_TOPIC) the file is started in a store."
        )
    if input is not None and not isinstance(input.value, dict):
        raise click.UsageError(
            "the input is no JSON object, and a message carries only an object, so no message was published: wrap "
            'the input in an object, like {"value": …}.'
        )
    parameters = input_for(None, values, input)
    # With an id that is chosen here, the message can be sent again when its publication is in doubt.
    begun = checked(run_id or f"run_{int(time())}_{SystemEntropy().token()[:16]}")
    labels = {"run_id": str(begun)} | ({} if dag is None else {"dag": dag})
    message = {"resource": {"type": "start", "labels": labels}}
    try:
        message_id = ask(publish(topic, message if parameters is None else message | {"parameters": parameters}))
    except PublishError as error:
        say(f"Error: {error}")
        if not error.is_refused:
            say(f"To repeat the start of the same run, add --run-id {begun}")
        return STORE_FAILED
    say(f"Published message {message_id} to {topic}. A process that receives it and serves the DAG starts this run:")
    print_result(begun)
    return OK
