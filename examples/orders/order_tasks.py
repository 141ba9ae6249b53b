"""The tasks of the example `orders`: plain functions, which can be tested without aiorch."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path

LIST_PRICES = {"apples": 2.5, "pears": 3.0, "plums": 4.0}


@dataclass
class Order:
    """One line of an order."""

    customer: str
    item: str
    count: int


@dataclass
class Total:
    """The amount that one customer owes."""

    customer: str
    amount: float


class UnreadableOrderError(ValueError):
    """A file that holds no order."""


def load(folder: Path, day: date) -> dict[str, list[object]]:
    """Read all orders of a day. Files that hold no order are named, and left out."""
    orders: list[object] = []
    unreadable: list[object] = []
    for file in sorted((folder / day.isoformat()).glob("*.json")):
        try:
            orders.append(_order(file))
        except UnreadableOrderError:
            unreadable.append(str(file))
    return {"orders": orders, "unreadable": unreadable}


def special_prices(folder: Path, day: date) -> dict[str, float]:
    """Read the prices that differ from the list on this day."""
    with (folder / day.isoformat() / "prices.csv").open(newline="") as file:
        return {row["item"]: float(row["price"]) for row in csv.DictReader(file)}


def total(orders: list[Order], special_prices: dict[str, float]) -> list[Total]:
    """Add up the orders of each customer."""
    prices = LIST_PRICES | special_prices
    amounts: defaultdict[str, float] = defaultdict(float)
    for order in orders:
        amounts[order.customer] += order.count * prices[order.item]
    return [Total(customer, round(amount, 2)) for customer, amount in sorted(amounts.items())]


def read(files: list[Path]) -> dict[str, list[Order]]:
    """Read files again that held no order before. Raises: UnreadableOrderError."""
    return {"orders": [_order(file) for file in files]}


def invoice(totals: list[Total], late: list[Order], folder: Path, day: date) -> list[str]:
    """Write one invoice for each customer, late orders included, and return the names of the files."""
    amounts = {each.customer: each.amount for each in totals}
    for each in total(late, {}):
        amounts[each.customer] = round(amounts.get(each.customer, 0) + each.amount, 2)
    target = folder / day.isoformat()
    target.mkdir(parents=True, exist_ok=True)
    for customer, amount in amounts.items():
        (target / f"{customer}.txt").write_text(f"{day:%d.%m.%Y} {customer}: {amount:.2f}\n")
    return [str(target / f"{customer}.txt") for customer in amounts]


def _order(file: Path) -> Order:
    try:
        return Order(**json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise UnreadableOrderError(f"{file.name}: {error}") from error
