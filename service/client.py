"""Where the Python client was: it is `glad_client` now, a distribution of its own (docs/client.md)."""

import warnings

from glad_client.answers import InspectionPage
from glad_client.async_client import AsyncClient
from glad_client.client import Client
from glad_client.errors import ApiError, ClientError, NotFinished, Unreachable

__all__ = ["ApiError", "AsyncClient", "Client", "ClientError", "InspectionPage", "NotFinished", "Unreachable"]

warnings.warn(
    "service.client is glad_client now, and will go: write `from glad_client import Client` "
    "(pip install glad-inspect-client)",
    DeprecationWarning,
    stacklevel=2,
)
