"""Connections to BigQuery, and its refusals turned into one sentence each."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google.auth
import grpc
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.api_core.retry import Retry, if_transient_error
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery, bigquery_storage
from google.cloud.bigquery.table import RowIterator
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from src.settings import Settings

# On demand, in most regions; what an operator pays may be less.
DOLLARS_PER_TIB = 6.25
_TOO_DEAR = re.compile(r"limit for bytes billed: \d+\. (\d+) or higher required", re.IGNORECASE)


class WarehouseError(Exception):
    """BigQuery could not answer; the text says why and what to do."""


@dataclass(frozen=True)
class Warehouse:
    """Both BigQuery clients and the bounds every call keeps."""

    queries: bigquery.Client
    storage: bigquery_storage.BigQueryReadClient
    timeout: float
    retry: Retry


def connect(settings: Settings) -> Warehouse:
    """Clients for the real BigQuery, or for a stand-in where BIGQUERY_REST_ENDPOINT names one.

    Raises:
        WarehouseError: if there are no usable credentials.
    """
    # The clients' own default retries a refused connection for ten minutes.
    retry = Retry(predicate=if_transient_error, initial=0.5, maximum=5, timeout=settings.bigquery_timeout_seconds)
    project = settings.bigquery_project_id
    if settings.bigquery_rest_endpoint:
        queries = bigquery.Client(
            project=project,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=settings.bigquery_rest_endpoint),
            location=settings.bigquery_location,
        )
        channel = grpc.insecure_channel(
            settings.bigquery_storage_endpoint, options=[("grpc.max_receive_message_length", -1)]
        )
        storage = bigquery_storage.BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
        return Warehouse(queries, storage, settings.bigquery_timeout_seconds, retry)
    with sentences(settings):
        scopes = ["https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/cloud-platform"]
        # Mounted where there is none, the key file is empty; a swarm's secret has at least a line's end.
        key = Path(settings.google_application_credentials)
        if settings.google_application_credentials and not (key.exists() and not key.read_bytes().strip()):
            credentials, _ = google.auth.load_credentials_from_file(
                settings.google_application_credentials, scopes=scopes
            )
        else:
            # The variable names that empty file to Google's own search as well, which would end there.
            os.environ.pop("GOOGLE_APPLICATION_CREDENTIALS", None)
            credentials, _ = google.auth.default(scopes=scopes)
        queries = bigquery.Client(project=project, credentials=credentials, location=settings.bigquery_location)
        storage = bigquery_storage.BigQueryReadClient(credentials=credentials)
    return Warehouse(queries, storage, settings.bigquery_timeout_seconds, retry)


@contextmanager
def sentences(settings: Settings) -> Iterator[None]:
    """Turns what goes wrong with BigQuery inside the block into a `WarehouseError` an operator can act on."""
    table = f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}"
    try:
        yield
    except exceptions.GoogleAPICallError as error:
        raise WarehouseError(_sentence(error, table, settings)) from error
    except GoogleAuthError as error:
        raise WarehouseError(
            f"BigQuery credentials are missing or unusable ({error}): "
            "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account"
        ) from error
    except (exceptions.GoogleAPIError, OSError) as error:
        raise WarehouseError(f"BigQuery did not answer: {error}") from error


def too_dear(settings: Settings, required: int) -> str:
    """The sentence about a read of so many bytes that BIGQUERY_MAXIMUM_BYTES_BILLED does not allow."""
    dollars = required / 1024**4 * DOLLARS_PER_TIB
    return (
        f"BigQuery would bill {required} bytes for one read, and BIGQUERY_MAXIMUM_BYTES_BILLED allows "
        f"{settings.bigquery_maximum_bytes_billed}: set it to {required} or more; such a read costs about "
        f"{dollars:.2f} USD, at {DOLLARS_PER_TIB} USD per TiB"
    )


def _sentence(error: exceptions.GoogleAPICallError, table: str, settings: Settings) -> str:
    message = str(error.message)
    if found := _TOO_DEAR.search(message):
        return too_dear(settings, int(found[1]))
    if isinstance(error, (exceptions.Unauthorized, exceptions.Unauthenticated)):
        return f"BigQuery refused the credentials: {message}"
    quota = isinstance(error, exceptions.Forbidden) and "quota" in message.lower()
    if quota or isinstance(error, (exceptions.TooManyRequests, exceptions.ResourceExhausted)):
        return f"BigQuery quota exceeded: {message}"
    if isinstance(error, exceptions.Forbidden):
        return f"These credentials may not read {table}: {message}"
    if isinstance(error, exceptions.NotFound):
        return f"Table {table} does not exist in BigQuery: {message}"
    if isinstance(error, exceptions.BadRequest):
        return f"BigQuery rejected the request on {table}: {message}"
    return f"BigQuery did not answer: {error}"


_CANCEL_SECONDS = 5


def run_query(
    warehouse: Warehouse,
    settings: Settings,
    query: str,
    parameters: Sequence[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter],
) -> tuple[RowIterator, int]:
    """The rows of a query, still to be fetched or all at hand, and the bytes it processed.

    Raises:
        WarehouseError: with a sentence that says what to do; where BIGQUERY_MAXIMUM_BYTES_BILLED does not suffice, too.
    """
    with sentences(settings):
        job = warehouse.queries.query(
            query,
            job_config=bigquery.QueryJobConfig(
                query_parameters=list(parameters), maximum_bytes_billed=settings.bigquery_maximum_bytes_billed
            ),
            timeout=warehouse.timeout,
            retry=warehouse.retry,
            job_retry=None,
        )
        try:
            rows = job.result(timeout=warehouse.timeout, retry=warehouse.retry)
        except Exception:
            # What nobody waits for any more is not billed, if BigQuery is told in time.
            with contextlib.suppress(Exception):
                if job.state != "DONE":
                    job.cancel(retry=None, timeout=_CANCEL_SECONDS)
            raise
    return rows, int(job.total_bytes_processed or 0)
