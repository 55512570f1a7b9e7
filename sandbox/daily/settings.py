"""How Daily behaves where it may behave in several ways: changed while the stand-in runs, forgotten when it stops."""

from dataclasses import dataclass, fields
from typing import Any

from . import checks
from .errors import invalid


@dataclass
class Settings:
    """What each one means is told in docs/sandbox.md."""

    limits: bool = False
    listing_lag: float = 0.0
    presence_lag: float = 0.0
    meeting_end_lag: float = 0.0
    processing_seconds: float = 0.5
    min_stay: float = 0.0
    removal_ends_call: bool = False
    nobody_needed: bool = True
    streaming_instances: int = 1
    max_participants_of_plan: int = 200
    max_webhooks: int = 1
    deliveries_at_once: int = 1

    def change(self, values: dict[str, Any]) -> None:
        """Takes all of these values, or none."""
        if unknown := values.keys() - CHECKS.keys():
            raise invalid(f"unknown setting {min(unknown)}; known are {', '.join(CHECKS)}")
        checks.check(values, CHECKS)
        for name, value in values.items():
            setattr(self, name, value)


CHECK_OF_TYPE = {bool: checks.BOOLEAN, float: checks.SECONDS, int: checks.POSITIVE_INT}
CHECKS = {field.name: CHECK_OF_TYPE[type(field.default)] for field in fields(Settings)}
