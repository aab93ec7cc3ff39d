"""The rules of alerts, as read from their file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from src.vocabulary import AnomalyType, Severity


class RulesError(Exception):
    """The file of rules cannot be used; the message says where and why."""


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    severity: Severity
    for_minutes: float = Field(0, ge=0)


class FailedJobs(_Rule):
    when: Literal["failed_jobs"]
    job_type: str = "processing_cycle"
    in_a_row: int = Field(1, ge=1, le=100)
    even_in_part: bool = False


class LateCycle(_Rule):
    when: Literal["late_cycle"]
    minutes: float | None = Field(None, gt=0)


class StaleData(_Rule):
    when: Literal["stale_data"]
    minutes: float = Field(gt=0)


class DataQuality(_Rule):
    when: Literal["data_quality"]
    below: float = Field(gt=0, le=1)


class ModelDegradation(_Rule):
    when: Literal["model_degradation"]
    times: float = Field(1.2, gt=1)
    days: float = Field(21, gt=0)


class ServiceHealth(_Rule):
    when: Literal["service_health"]
    replicas: int = Field(1, ge=1)
    queued: int = Field(1000, ge=1)


class Anomalies(_Rule):
    when: Literal["anomalies"]
    at_least: Severity = "critical"
    types: frozenset[AnomalyType] = frozenset()


Rule = Annotated[
    FailedJobs | LateCycle | StaleData | DataQuality | ModelDegradation | ServiceHealth | Anomalies,
    Field(discriminator="when"),
]


class Rules(BaseModel):
    """All rules, by names that are theirs alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tell_again_after_hours: float = Field(4, gt=0)
    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Rules:
        names = [rule.name for rule in self.rules]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two rules have the name '{repeated}'")
        return self


def load_rules(path: Path) -> Rules:
    """The rules of a file.

    Raises:
        RulesError: with a sentence that names what is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RulesError(f"ALERT_RULES_FILE {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RulesError(f"ALERT_RULES_FILE {path} is no YAML: {error}") from None
    try:
        return Rules.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise RulesError(f"ALERT_RULES_FILE {path} is wrong at {place or 'the top'}: {problem['msg']}") from None
