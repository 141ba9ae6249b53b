"""The process of the service: settings from the environment, the engine, HTTP routes, and a clean end."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn

from aiorch import Orchestrator, Settings, __version__
from aiorch.errors import AiorchError, MissingExtraError
from aiorch.ports.store import Store
from aiorch.service.ending import Ending
from aiorch.service.logs import log_for_cloud
from aiorch.service.metrics import Metrics
from aiorch.service.settings import ServiceSettings, SettingsError, effective, load_settings, target_settings
from aiorch.settings import LaunchSettings
from aiorch.stores import open_store
from aiorch.system.exit import leave
from aiorch.views.streams import write_line
from aiorch.web.server import cannot_bind, exposure_warning, is_loopback, listening, make_app
from aiorch.web.serving import serve_dags

logger = logging.getLogger("aiorch.service")

ENDED, FAILED, SETTINGS_WRONG = 0, 1, 2


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the service, and end the process with its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m aiorch.service", description="aiorch as a service. All settings are environment variables."
    )
    parser.add_argument("--check", action="store_true", help="check settings and definitions, print the settings")
    parser.add_argument("--version", action="version", version=__version__)
    is_check = parser.parse_args(args).check
    try:
        settings = load_settings()
    except (SettingsError, MissingExtraError) as error:
        write_line(sys.stderr, str(error))
        leave(SETTINGS_WRONG)
    if is_check:
        leave(check(settings))
    log_for_cloud(settings.log_level, settings.log_project_id)
    metrics = Metrics()
    orchestrator = open_orchestrator(settings, metrics)
    if wrong := serve_dags(orchestrator, settings.dags):
        logger.critical("the service was not started", extra={"action": "failed", "error": "\n".join(wrong)})
        leave(SETTINGS_WRONG)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        code = runner.run(serve(settings, orchestrator, metrics))
    leave(code)


def check(settings: ServiceSettings) -> int:
    """Print the settings in effect, and all mistakes in the definitions, without opening the store."""
    write_line(sys.stdout, effective(settings))
    nowhere = Orchestrator("memory:", search_paths=settings.path, settings=engine_settings(settings))
    wrong = serve_dags(nowhere, settings.dags)
    if wrong:
        write_line(sys.stderr, "\n".join(["the service would not start:", *wrong]))
        return SETTINGS_WRONG
    write_line(sys.stdout, f"DAGs: {', '.join(sorted(nowhere.dags)) or 'none'}")
    return ENDED


async def serve(settings: ServiceSettings, orchestrator: Orchestrator, metrics: Metrics) -> int:
    """Serve until a signal comes. Returns: the exit code."""
    ending = Ending(settings.drain)
    token = settings.serve_token.get_secret_value() if settings.serve_token else None
    if warning := exposure_warning(settings.host, token, host_setting="AIORCH_HOST"):
        logger.warning(warning)
    app = make_app(
        orchestrator,
        token=token,
        only_loopback_names=is_loopback(settings.host),
        allow_definitions=settings.serve_allow_definitions,
        not_ready=lambda: ending.not_ready,
    )
    app.router.add_get("/metrics", metrics.scrape)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            try:
                url = await stack.enter_async_context(listening(app, settings.host, settings.port))
            except OSError as error:
                raise AiorchError(
                    f"{cannot_bind(settings.host, settings.port, error)} AIORCH_HOST and AIORCH_PORT name another "
                    f"address."
                ) from error
            await stack.enter_async_context(orchestrator)
            ending.is_ready()
            facts = {"url": url, "store": settings.store, "subscription": settings.subscription}
            logger.info("serving", extra={"action": "serving", **facts, "dags": sorted(orchestrator.dags)})
            await asyncio.get_running_loop().create_future()  # until a signal cancels it

    return await ending.until_signalled(work(), failed=FAILED)


def open_orchestrator(settings: ServiceSettings, metrics: Metrics) -> Orchestrator:
    """Return the engine that the settings describe, not entered yet, with *metrics* as its observer."""
    store, operations = open_counting_store(settings)
    source = None
    if settings.subscription is not None:
        from aiorch.sources.pubsub import PubSubSource  # noqa: PLC0415  imported when used

        source = PubSubSource(settings.subscription, outstanding_messages_max=settings.concurrency)
    orchestrator = Orchestrator(
        store,
        search_paths=settings.path,
        definition_folders=[*settings.path, Path.cwd()],
        targets=target_settings(settings),
        source=source,
        own_names=settings.own_names,
        observer=metrics,
        settings=engine_settings(settings),
    )
    metrics.watch(orchestrator, store_operations=operations, messages=source)
    return orchestrator


def open_counting_store(settings: ServiceSettings) -> tuple[Store, Mapping[str, int] | None]:
    """Return the store, and its count of requests if the store counts them."""
    if not settings.store.startswith("gs://"):
        return open_store(settings.store), None
    from aiorch.stores.gcs import open_gcs  # noqa: PLC0415  imported when used

    bucket = open_gcs(settings.store, heartbeat_s=settings.heartbeat, dead_after_s=settings.dead_after)
    return bucket, bucket.operations


def engine_settings(settings: ServiceSettings) -> Settings:
    """Return the settings of the engine itself."""
    return Settings(
        sweep_interval_s=settings.sweep_interval,
        drain_s=settings.drain,
        project_id=settings.project_id,
        region=settings.region,
        secrets=settings.secrets,
        launches=LaunchSettings(at_once_max=settings.launches, poll_interval_s=settings.poll_interval),
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of a fast event loop, `None` if uvloop is missing."""
    try:
        import uvloop  # noqa: PLC0415  it may be missing
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
