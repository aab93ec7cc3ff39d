"""Connections to BigQuery, and its refusals turned into one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
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
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from src.settings import Settings


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
        # Mounted where there is none, the key file is empty.
        key = Path(settings.google_application_credentials)
        if settings.google_application_credentials and not (key.exists() and key.stat().st_size == 0):
            credentials, _ = google.auth.load_credentials_from_file(
                settings.google_application_credentials, scopes=scopes
            )
        else:
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
    except GoogleAuthError as error:
        raise WarehouseError(
            f"BigQuery credentials are missing or unusable ({error}): "
            "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account"
        ) from error
    except (exceptions.Unauthorized, exceptions.Unauthenticated) as error:
        raise WarehouseError(f"BigQuery refused the credentials: {error.message}") from error
    except exceptions.Forbidden as error:
        if "quota" in error.message.lower():
            raise WarehouseError(f"BigQuery quota exceeded: {error.message}") from error
        raise WarehouseError(f"These credentials may not read {table}: {error.message}") from error
    except (exceptions.TooManyRequests, exceptions.ResourceExhausted) as error:
        raise WarehouseError(f"BigQuery quota exceeded: {error.message}") from error
    except exceptions.NotFound as error:
        raise WarehouseError(f"Table {table} does not exist in BigQuery: {error.message}") from error
    except exceptions.BadRequest as error:
        raise WarehouseError(f"BigQuery rejected the request on {table}: {error.message}") from error
    except (exceptions.GoogleAPIError, OSError) as error:
        raise WarehouseError(f"BigQuery did not answer: {error}") from error
