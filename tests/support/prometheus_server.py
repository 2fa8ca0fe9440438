"""A running Prometheus, asked over HTTP."""

from __future__ import annotations

from typing import Any

import httpx


class Prometheus:
    """A running server."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def ask(self, expression: str) -> list[Any]:
        """The result of a query now; what Prometheus refuses fails."""
        answer = self._http.post("/query", data={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        result: list[Any] = answer["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        groups = self._http.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def answers(self) -> bool:
        """It is up."""
        try:
            return self._http.get("/status/runtimeinfo").is_success
        except httpx.TransportError:
            return False
