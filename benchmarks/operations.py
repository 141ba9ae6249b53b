"""
Requests to Cloud Storage by class, and what they cost.

Class A are writes and listings, class B are reads, deletes are free. Every request that is sent counts, those that are
refused too. What is stored, and the network within a region, come to next to nothing beside them and are left out.

Source: Cloud Storage documentation, "Pricing", Standard storage in one region, as of September 2026.
"""

from collections.abc import Mapping

CLASS_A_USD = 0.005 / 1000
CLASS_B_USD = 0.0004 / 1000


def price_usd(operations: Mapping[str, float]) -> float:
    """Price of so many operations: by class, as `GCSStore` counts them."""
    return operations.get("A", 0) * CLASS_A_USD + operations.get("B", 0) * CLASS_B_USD


def per_task(operations: Mapping[str, float], tasks: int) -> dict[str, float]:
    """Operations for each of so many tasks, and the price of a million tasks."""
    return {
        "class_a_per_task": operations.get("A", 0) / tasks,
        "class_b_per_task": operations.get("B", 0) / tasks,
        "free_per_task": operations.get("free", 0) / tasks,
        "usd_per_million_tasks": price_usd(operations) / tasks * 1e6,
    }
