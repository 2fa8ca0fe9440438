"""The least that a web server can do with an image: read its body, answer 202. The ceiling of accepting over HTTP."""

from __future__ import annotations

import argparse
import socket
from typing import Any

import uvicorn

ANSWER = b'{"state":"queued"}'


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Reads the body to its end, piece by piece, keeps none of it, and answers."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    status = 202 if scope["method"] == "POST" else 200  # the latter for who asks whether it lives
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    """Serves on the inherited socket until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.endurance.bare_app", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="an inherited, listening TCP socket")
    given = parser.parse_args()
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=given.fd)])


if __name__ == "__main__":
    main()
