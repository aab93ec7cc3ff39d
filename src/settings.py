"""Every setting of both services, read from the environment and validated once at the start.

The text below a setting is its description. From this module `python -m src.settings_files` writes the settings in
`.env.processing.example`, and those that the compose and the stack file pass on.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from src.clock import Clock, clock_from
from src.setting_values import (
    ClockText,
    Identifier,
    Mark,
    MeterError,
    Origins,
    Readers,
    TimeZoneName,
    ValidRange,
)
from src.vocabulary import MeterClass


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


class Section(BaseSettings):
    """Settings that belong together. A section's docstring is its heading in the example."""

    # A section is never made by itself: its validator is not built.
    model_config = SettingsConfigDict(defer_build=True)

    readers: ClassVar[Readers] = Readers.BOTH


class PostgresSettings(Section):
    """PostgreSQL (with TimescaleDB where it is present)."""

    postgres_host: Annotated[str, Mark.SET_IN_CONTAINERS] = "localhost"
    """A host that begins with / is the folder of its socket."""
    postgres_port: Annotated[int, Mark.SET_IN_CONTAINERS] = Field(5433, ge=1, le=65535)
    """Of containers: the port of this machine that leads to it."""
    postgres_user: Annotated[str, Mark.SET_IN_CONTAINERS] = "abbanoa_user"
    """Of containers: the owner, who migrates; each service connects in a role that has fewer rights."""
    postgres_db: Annotated[str, Mark.DEFAULT_IN_CONTAINERS] = "abbanoa_processing"
    """The name of the database."""
    postgres_password: Annotated[SecretStr, Mark.TO_FILL_IN] = SecretStr("")
    r"""A secret may stand in a file instead: POSTGRES_PASSWORD_FILE=/path, and so for every other secret here. In
    containers: here or, as it is, in secrets/postgres_password; here, put one with any of $ # ' " \ or a blank between
    '...'."""
    postgres_sslmode: Annotated[
        Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"], Mark.SET_IN_CONTAINERS
    ] = "prefer"
    """Whether connections are encrypted and the server is verified, as libpq has it."""
    postgres_sslrootcert: Annotated[str, Mark.SET_IN_CONTAINERS] = ""
    """The file of the certificate that verify-ca and verify-full trust."""
    postgres_processing_password: Annotated[SecretStr, Mark.TO_FILL_IN, Readers.MIGRATION] = SecretStr("")
    """`python -m src.db.roles` gives it to the role abbanoa_processing."""
    postgres_api_password: Annotated[SecretStr, Mark.TO_FILL_IN, Readers.MIGRATION] = SecretStr("")
    """The same, for the role abbanoa_api."""
    postgres_readonly_password: Annotated[SecretStr, Mark.TO_FILL_IN, Readers.MIGRATION] = SecretStr("")
    """The same, for the role abbanoa_readonly."""
    postgres_statement_cache: Annotated[bool, Readers.API] = True
    """false behind a pooler in transaction mode (PgBouncer): prepared statements may be on another connection."""


class RedisSettings(Section):
    """Redis: queue and cache."""

    redis_host: Annotated[str, Mark.SET_IN_CONTAINERS] = "localhost"
    """The host it runs on."""
    redis_port: Annotated[int, Mark.SET_IN_CONTAINERS] = Field(6380, ge=1, le=65535)
    """Of containers: the port of this machine that leads to it."""
    redis_password: Annotated[SecretStr, Mark.TO_FILL_IN] = SecretStr("")
    """Empty: none is needed; of containers, one is made."""


class WarehouseSettings(Section):
    """BigQuery: where the readings lie. The processing service needs the project; the API needs none of this."""

    readers: ClassVar[Readers] = Readers.PROCESSING

    bigquery_project_id: Annotated[str, Mark.TO_FILL_IN, Mark.SET_IN_CONTAINERS] = ""
    """The Google Cloud project. In containers nothing means the demo profile's stand-in."""
    bigquery_dataset_id: Identifier = "water_infrastructure"
    """The dataset that has the table."""
    bigquery_table: Identifier = "sensor_readings_ml"
    """A table, or a view that stands in for one."""
    bigquery_location: str = "EU"
    """Where the dataset is, as BigQuery calls it."""
    google_application_credentials: Annotated[str, Mark.SET_IN_CONTAINERS] = ""
    """The key file of a service account; without it the environment's own credentials are used."""
    bigquery_columns: dict[str, Identifier] = {}
    """Where columns have other names than ours: a JSON object, ours to theirs, such as {"flow_rate": "portata"}."""
    bigquery_weather_table: Literal[""] | Identifier = ""
    """Hourly weather, observed and forecast, if there is a table of it in the same dataset: timestamp and any of
    temperature (°C), rain (mm in the hour), humidity (%)."""
    bigquery_weather_columns: dict[str, Identifier] = {}
    """Where columns of that table have other names than these, as above."""
    bigquery_maximum_bytes_billed: int = Field(20 * 1024**3, ge=1)
    """A query or a read of a table that would bill more is refused; the job's error_message says what it would take."""
    bigquery_timeout_seconds: float = Field(60, gt=0, le=3600)
    """Every call ends by then, retries included."""
    bigquery_streams: int = Field(4, ge=1, le=64)
    """How many streams a read is divided into at most."""
    bigquery_rest_endpoint: str = ""
    """A stand-in for tests and trials: http://host:port. Empty: the real BigQuery."""
    bigquery_storage_endpoint: str = ""
    """The stand-in's Storage Read API: host:port."""


class ReadingsSettings(Section):
    """Readings: their quality and units, what is possible, and how far meters err."""

    readers: ClassVar[Readers] = Readers.PROCESSING

    minimum_quality_score: float = Field(0.5, ge=0, le=1)
    """The optional columns is_interpolated (true: the collector filled the row in) and data_quality_score (0 to 1) are
    read where they are there. Rows with a lower score are set aside; 0 takes all. Rows without one are taken."""
    unit_flow_rate: str = "L/s"
    """The unit in which the warehouse has its flows: L/s, m3/h, L/min, ML/d, gpm, MGD, ft3/min. A node's own units
    stand in its metadata: {"units": {"flow_rate": "m3/h"}}."""
    unit_pressure: str = "bar"
    """Of pressures: bar, m (of head), kPa, mbar, psi, ft."""
    unit_temperature: str = "°C"
    """Of temperatures: °C, °F, K."""
    unit_volume: str = "m³"
    """Of volumes: m³, L, gal, ft3."""
    volume_is: Literal["increment", "counter"] = "increment"
    """Whether a volume is what flowed since the previous reading (increment), or the reading of a register that only
    grows (counter). A node's own stands in its metadata: {"volume_is": "counter"}; of nodes without it, registers are
    found out."""
    valid_ranges: dict[Literal["flow_rate", "pressure", "temperature", "volume"], ValidRange] = {}
    """What is possible, where it is not flow 0 to 10000 L/s, pressure 0 to 25 bar, temperature -30 to 60 °C, volume
    from 0 m³; in these units whatever the readings' are: {"pressure": {"high": 40}}. A node's own stand in its metadata
    as "ranges"."""
    meter_errors: dict[Literal["inlet", "outlet", "consumption"] | MeterClass, MeterError] = {}
    """How far meters err at 95 %, as a share of what they measure, where it is not as usual: by role (inlet and outlet
    0.02, consumption 0.05), or by the meter_class of a node's metadata (electromagnetic and ultrasonic 0.02,
    iso_4064_class_1 0.03, iso_4064_class_2 0.05, old_mechanical 0.1). As JSON: {"consumption": 0.03}. What metadata
    state of a node wins."""
    level_error_metres: float = Field(0.01, ge=0, le=1)
    """How far a reading of a tank's level errs at 95 %, m."""
    apparent_loss_share: float = Field(0.2, ge=0, le=1)
    """The share of metered water losses that is apparent: meters that show too little, theft, mistakes in the books."""


class ProcessingSettings(Section):
    """Processing"""

    readers: ClassVar[Readers] = Readers.PROCESSING

    utility_timezone: Annotated[TimeZoneName, Readers.BOTH] = "Europe/Rome"
    """The zone of the utility's days."""
    utility_country: Annotated[str, Readers.BOTH] = Field("IT", pattern="^([A-Z]{2})?$")
    """Country (ISO 3166, two letters) whose public holidays count as Sundays in what is expected; "" knows none."""
    out_of_service_after_days: int = Field(30, ge=0, le=3650)
    """A node that was silent for so many days is out of service until readings come again: no events, scores or alarms
    of it. 0: never by itself, only by the node file."""
    check_interval_minutes: int = Field(30, ge=1, le=1440)
    """So often the warehouse is searched for new readings."""
    late_arrival_hours: int = Field(24, ge=0, le=24 * 30)
    """Where rows have no ingestion_timestamp: so much before a node's last reading is read again whenever it has
    news."""
    late_arrival_lookback_days: int = Field(30, ge=1, le=3650)
    """Rows that arrived late are looked for this far back. Older ones come in by a backfill."""
    late_arrival_margin_minutes: int = Field(60, ge=0, le=7 * 24 * 60)
    """A row may become visible so long after rows with a later ingestion_timestamp: loaders stamp before they commit.
    Rows stamped within this margin are counted again in each cycle, and read again where there are more."""
    worker_threads: int = Field(2, ge=1, le=64)
    """So many chunks of readings are worked off at once in each replica; a training has a thread beside them."""
    training_examples: int = Field(500_000, ge=10_000, le=500_000)
    """Of near and of far forecasts each, a training learns from so many at most: its memory and time go by it."""
    chunk_readings: int = Field(250_000, ge=1)
    """About so many readings are worked off in one transaction: more is faster, and takes more memory."""
    replica_timeout_seconds: Annotated[int, Readers.BOTH] = Field(60, ge=2, le=3600)
    """A replica that has been silent for this long is taken for dead, and what a silent job still waits for is offered
    again."""
    shutdown_seconds: Annotated[int, Readers.BOTH] = Field(25, ge=1, le=300)
    """After SIGTERM, running work has this long to come to a committed end."""


class RetentionSettings(Section):
    """Retention, in days"""

    readers: ClassVar[Readers] = Readers.PROCESSING

    retention_metrics_days: int = Field(90, ge=1)
    """Metrics of nodes and checks of their data; balances of hours."""
    retention_balances_days: int = Field(800, ge=400)
    """Balances of days, and of the 30 and 365 days up to each; those of hours go with the metrics. A year's balance
    needs the days of a year, and late readings change those of some weeks before."""
    retention_predictions_days: int = Field(30, ge=1)
    """Forecasts."""
    retention_jobs_days: int = Field(7, ge=1)
    """Jobs that have ended, and the network's metrics."""
    retention_anomalies_days: int = Field(30, ge=1)
    """Events, after they were resolved; open ones stay."""
    timescale_chunk_days: int = Field(7, ge=1)
    """TimescaleDB only: how much time a chunk of a table covers."""
    timescale_compress_after_days: int = Field(35, ge=1)
    """TimescaleDB only; compression begins later where late arrivals reach further back."""


class ApiSettings(Section):
    """API"""

    readers: ClassVar[Readers] = Readers.API

    api_host: Annotated[str, Mark.SET_IN_CONTAINERS] = "127.0.0.1"
    """The address it listens on."""
    api_port: Annotated[int, Mark.SET_IN_CONTAINERS] = Field(8000, ge=1, le=65535)
    """Of containers: the port of this machine that leads to it."""
    api_pool_size: int = Field(10, ge=1, le=100)
    """How many connections to the database it has at most."""
    stale_after_minutes: int = Field(180, ge=1)
    """/api/v1/status says stale when the latest reading is older."""
    cache_seconds: int = Field(60, ge=1, le=3600)
    """An answer is kept at most this long, also where the data did not change."""
    api_auth: Annotated[Literal["required", "off"], Mark.DEFAULT_IN_CONTAINERS] = "required"
    """Whether a key is needed. Keys are made by ./scripts/create_api_key.sh or `python -m src.db.api_keys create`."""
    api_requests_per_minute_and_key: int = Field(6_000, ge=0)
    """So many requests of a key are answered in a minute; 0: no limit."""
    api_requests_per_minute_and_address: int = Field(12_000, ge=0)
    """And so many from an address; 0: no limit."""
    api_trusted_proxies: Annotated[str, Mark.SET_IN_CONTAINERS] = "127.0.0.1"
    """Whose X-Forwarded-For is believed: addresses or networks, separated by commas. (In containers: Nginx'
    besides.)"""
    session_minutes: int = Field(60, ge=1, le=60 * 24)
    """A session of the dashboard ends when it was not used for so long."""
    display_session_days: int = Field(90, ge=1, le=366)
    """A session for a screen on the wall, which may only read."""
    api_cors_origins: Origins = ""
    """Origins whose pages may ask the API from a browser, separated by commas: https://dashboard.example.org"""


class CommonSettings(Section):
    """Both"""

    clock: ClockText = "live"
    """live, frozen:<instant>, stepped:<instant> (for --until) or ticking:<instant>[@<real start>][*<speed>]: another
    time than now, for trials and replays."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Less important lines are not logged."""
    log_format: Annotated[Literal["auto", "json", "console"], Mark.SET_IN_CONTAINERS] = "auto"
    """auto: JSON, or readable lines on a terminal."""
    metrics_port: Annotated[int, Mark.SET_IN_CONTAINERS] = Field(0, ge=0, le=65535)
    """Prometheus can read each service's measures on this port of every address; 0: on none. (In containers: 9100.)"""


class AlertSettings(Section):
    """Alerts: their rules stand in alerts/alert-rules.yml, their recipients here. Several may be set."""

    readers: ClassVar[Readers] = Readers.PROCESSING

    alert_rules_file: str = "alerts/alert-rules.yml"
    """The file of the rules."""
    alert_webhook_url: SecretStr = SecretStr("")
    """An address that takes JSON by POST, https://chat.example.org/hooks/...; it may hold a secret, and is never
    logged."""
    alert_alertmanager_url: str = ""
    """An Alertmanager, http://host:9093: the service's alerts go there, and those of Prometheus' own rules, which reach
    nobody otherwise."""
    alert_smtp_host: str = ""
    """Mail, encrypted by STARTTLS where the server offers it; a password is never sent otherwise."""
    alert_smtp_port: int = Field(587, ge=1, le=65535)
    """The mail server's port."""
    alert_smtp_user: str = ""
    """The user that the mail server knows; empty: none is needed."""
    alert_smtp_password: SecretStr = SecretStr("")
    """The user's password."""
    alert_mail_from: str = ""
    """From whom; empty: abbanoa@<ALERT_SMTP_HOST>."""
    alert_mail_to: str = ""
    """To whom: several addresses are parted by commas."""


class Settings(
    PostgresSettings,
    RedisSettings,
    WarehouseSettings,
    ReadingsSettings,
    ProcessingSettings,
    RetentionSettings,
    ApiSettings,
    CommonSettings,
    AlertSettings,
):
    """Field names are the variables' names in lower case."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, defer_build=False)

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
