"""Callables whose annotations are texts, some with names that only a type checker imports."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nowhere import Missing

    import aiorch
    from aiorch import TaskContext, ports


@dataclass
class Day:
    date: date
    limit: int = 1


def by_name(day: date, limit: int = 3) -> Any:
    return day, limit


def with_context(day: date, where: TaskContext) -> Any:
    return day, where


def with_optional_context(day: date, where: TaskContext | None = None) -> Any:
    return day, where


def with_context_of_package(day: date, where: aiorch.TaskContext) -> Any:
    return day, where


def with_context_of_module(day: date, where: ports.TaskContext) -> Any:
    return day, where


def context_alone(where: TaskContext) -> Any:
    return where


def unknown_context(context: Missing) -> Any:
    return context


def unknown_alone(day: Missing) -> Any:
    return day


def unknown(day: Missing, days: list[Missing], limit: int) -> Any:
    return day, days, limit


def nested(day: Day, days: list[Day]) -> Any:
    return day, days


def not_an_expression(day: "a day, e.g. 2026-11-23", limit: int) -> Any:  # noqa: F722
    return day, limit


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


decorated = logged(by_name)
partly = functools.partial(by_name, limit=7)


class Loader:
    def load(self, day: date, limit: int = 3) -> Any:
        return day, limit

    @classmethod
    def of(cls, day: date) -> Any:
        return day

    def __call__(self, day: date, context: Any) -> Any:
        return day, context
