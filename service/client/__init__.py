"""The Python client of a running service (docs/client.md), and what is built on it: line camera and hot folder."""

from service.client.client import AsyncClient, Client
from service.client.retries import ApiError, ClientError, InspectionPage, NotFinished, Unreachable

__all__ = ["ApiError", "AsyncClient", "Client", "ClientError", "InspectionPage", "NotFinished", "Unreachable"]
