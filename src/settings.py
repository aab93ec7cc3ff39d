"""Every setting of both services, read from the environment and validated once at the start."""

from __future__ import annotations

import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from src.clock import Clock, clock_from
from src.vocabulary import MeterClass


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("expected an IANA time zone such as Europe/Rome") from None
    return name


def _known_clock(text: str) -> str:
    clock_from(text)
    return text


def _known_origins(text: str) -> str:
    for origin in filter(None, (part.strip() for part in text.split(","))):
        if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
            raise ValueError(f"'{origin}' is no origin: write it like https://dashboard.example.org")
    return text


# What may stand in a table or column name of the warehouse: names cannot be bound as parameters,
# so nothing else ever reaches a query.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,299}$")]
# As a share of what is measured.
MeterError = Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)]


class ValidRange(BaseModel):
    """The least and the largest value that a measurement can have, in the product's unit; None: the usual one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _has_room(self) -> ValidRange:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be less than high {self.high:g}")
        return self


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets from files: POSTGRES_PASSWORD_FILE names one that holds POSTGRES_PASSWORD."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE") if field.annotation is SecretStr else None
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text().strip(), field_name, False
        except OSError as error:
            sys.stderr.write(f"Setting {field_name.upper()}_FILE is wrong: {path} cannot be read ({error.strerror}).\n")
            raise SystemExit(2) from None

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value}


class Settings(BaseSettings):
    """Field names are the variables' names in lower case."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    postgres_host: str = "localhost"
    postgres_port: int = Field(5433, ge=1, le=65535)
    postgres_user: str = "abbanoa_user"
    postgres_password: SecretStr = SecretStr("")
    postgres_db: str = "abbanoa_processing"
    postgres_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    postgres_sslrootcert: str = ""
    postgres_statement_cache: bool = True
    postgres_processing_password: SecretStr = SecretStr("")
    postgres_api_password: SecretStr = SecretStr("")
    postgres_readonly_password: SecretStr = SecretStr("")

    redis_host: str = "localhost"
    redis_port: int = Field(6380, ge=1, le=65535)
    redis_password: SecretStr = SecretStr("")

    bigquery_project_id: str = ""
    bigquery_dataset_id: Identifier = "water_infrastructure"
    bigquery_table: Identifier = "sensor_readings_ml"
    bigquery_location: str = "EU"
    bigquery_columns: dict[str, Identifier] = {}
    bigquery_weather_table: Literal[""] | Identifier = ""
    bigquery_weather_columns: dict[str, Identifier] = {}
    bigquery_maximum_bytes_billed: int = Field(20 * 1024**3, ge=1)
    bigquery_timeout_seconds: float = Field(60, gt=0, le=3600)
    bigquery_streams: int = Field(4, ge=1, le=64)
    bigquery_rest_endpoint: str = ""
    bigquery_storage_endpoint: str = ""
    google_application_credentials: str = ""

    unit_flow_rate: str = "L/s"
    unit_pressure: str = "bar"
    unit_temperature: str = "°C"
    unit_volume: str = "m³"
    valid_ranges: dict[Literal["flow_rate", "pressure", "temperature", "volume"], ValidRange] = {}
    minimum_quality_score: float = Field(0.5, ge=0, le=1)
    volume_is: Literal["increment", "counter"] = "increment"
    meter_errors: dict[Literal["inlet", "outlet", "consumption"] | MeterClass, MeterError] = {}
    level_error_metres: float = Field(0.01, ge=0, le=1)
    apparent_loss_share: float = Field(0.2, ge=0, le=1)

    utility_timezone: Annotated[str, AfterValidator(_known_zone)] = "Europe/Rome"
    utility_country: str = Field("IT", pattern="^([A-Z]{2})?$")
    # Days of silence after which a node is out of service until readings come again; 0: never by itself.
    out_of_service_after_days: int = Field(30, ge=0, le=3650)
    check_interval_minutes: int = Field(30, ge=1, le=1440)
    late_arrival_hours: int = Field(24, ge=0, le=24 * 30)
    late_arrival_margin_minutes: int = Field(60, ge=0, le=7 * 24 * 60)
    late_arrival_lookback_days: int = Field(30, ge=1, le=3650)
    # Of near and of far forecasts each: what a training learns from at most, by which its memory and time go.
    training_examples: int = Field(500_000, ge=10_000, le=500_000)
    worker_threads: int = Field(2, ge=1, le=64)
    chunk_readings: int = Field(250_000, ge=1)
    replica_timeout_seconds: int = Field(60, ge=2, le=3600)
    shutdown_seconds: int = Field(25, ge=1, le=300)

    retention_metrics_days: int = Field(90, ge=1)
    # A year's balance needs the days of a year, and late readings change those of some weeks before.
    retention_balances_days: int = Field(800, ge=400)
    retention_predictions_days: int = Field(30, ge=1)
    retention_jobs_days: int = Field(7, ge=1)
    retention_anomalies_days: int = Field(30, ge=1)
    timescale_chunk_days: int = Field(7, ge=1)
    timescale_compress_after_days: int = Field(35, ge=1)

    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=1, le=65535)
    api_pool_size: int = Field(10, ge=1, le=100)
    stale_after_minutes: int = Field(180, ge=1)
    cache_seconds: int = Field(60, ge=1, le=3600)
    api_auth: Literal["required", "off"] = "required"
    api_requests_per_minute_and_key: int = Field(6_000, ge=0)
    api_requests_per_minute_and_address: int = Field(12_000, ge=0)
    api_trusted_proxies: str = "127.0.0.1"
    api_cors_origins: Annotated[str, AfterValidator(_known_origins)] = ""
    session_minutes: int = Field(60, ge=1, le=60 * 24)
    display_session_days: int = Field(90, ge=1, le=366)

    alert_rules_file: str = "alerts/alert-rules.yml"
    alert_webhook_url: SecretStr = SecretStr("")
    alert_alertmanager_url: str = ""
    alert_smtp_host: str = ""
    alert_smtp_port: int = Field(587, ge=1, le=65535)
    alert_smtp_user: str = ""
    alert_smtp_password: SecretStr = SecretStr("")
    alert_mail_from: str = ""
    alert_mail_to: str = ""

    clock: Annotated[str, AfterValidator(_known_clock)] = "live"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    metrics_port: int = Field(0, ge=0, le=65535)

    @model_validator(mode="after")
    def _know_the_demo(self) -> Settings:
        # No project of Google's has a name this short: it is the stand-in of the containers' demo profile.
        if self.bigquery_project_id == "demo" and not self.bigquery_rest_endpoint:
            self.bigquery_rest_endpoint, self.bigquery_storage_endpoint = "http://bigquery:9050", "bigquery:9060"
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SecretFiles(settings_cls)

    @property
    def allowed_origins(self) -> list[str]:
        """The origins whose pages may ask the API from a browser, besides its own."""
        return [origin.strip() for origin in self.api_cors_origins.split(",") if origin.strip()]

    @cached_property
    def running_clock(self) -> Clock:
        """The one clock of this process."""
        return clock_from(self.clock)


def refuse(variable: str, message: str) -> NoReturn:
    """Ends the process with a line that names a wrong setting."""
    sys.stderr.write(f"Setting {variable} is wrong: {message}.\n")
    raise SystemExit(2)


def load_settings(*, with_warehouse: bool = False) -> Settings:
    """Settings from the environment; a wrong or missing one ends the process with a line that names it."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            variable = ".".join(str(part) for part in problem["loc"]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            sys.stderr.write(
                f"Setting {variable} is {'missing' if problem['type'] == 'missing' else 'wrong'}: {message}.\n"
            )
        raise SystemExit(2) from None
    if with_warehouse and not settings.bigquery_project_id:
        sys.stderr.write("Setting BIGQUERY_PROJECT_ID is missing: the Google Cloud project of the readings' table.\n")
        raise SystemExit(2)
    return settings
