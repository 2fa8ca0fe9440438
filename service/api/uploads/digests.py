"""The header `Content-Digest` (RFC 9530): a checksum of the content that the sender adds, and that is checked here.

Few formats of images show every damage: a BMP has no checksum at all. A sender that adds one is told when what arrived
is not what it sent. The whole body may have it, and so may a part of a form.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from concurrent.futures import Executor

from fastapi import Request

from service.errors import DigestMismatch

HEADER = "Content-Digest"
DIGEST_BYTES = {"sha-256": 32, "sha-512": 64}
"""Algorithms that are checked; others are passed over, as the standard allows."""
FORM = "sha-256=:BASE64:"
MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):(?:;.*)?")
"""A member of the dictionary (RFC 8941): an algorithm and bytes in base64, perhaps with parameters."""
MOST_QUOTED = 100


async def read_body(request: Request, threads: Executor) -> bytes:
    """Return the body of a request.

    Args:
        request: whose body has not been read.
        threads: one of them compares it with its digest, if it has one.

    Raises:
        DigestMismatch: if it has a digest, and is not what the digest was made of.
    """
    body = await request.body()
    digests = ", ".join(request.headers.getlist(HEADER))
    if digests:
        await asyncio.get_running_loop().run_in_executor(threads, check_digest, digests, body, "the body")
    return body


def check_digest(digests: str, content: bytes, name: str) -> None:
    """Check content against every digest of a header that is known here.

    Args:
        digests: the header's value.
        content: as it was sent, in its content coding.
        name: what the error calls the content.

    Raises:
        DigestMismatch: if one is not the content's, or the header cannot be read.
    """
    for algorithm, digest in _members(digests):
        found = hashlib.new(algorithm.replace("-", ""), content).digest()
        if not hmac.compare_digest(found, digest):
            raise DigestMismatch(
                f"{name} has {len(content)} bytes with the {algorithm} {_base64(found)}; its {HEADER} says "
                f"{_base64(digest)}: it was changed on its way, send it again"
            )


def _members(digests: str) -> Iterator[tuple[str, bytes]]:
    """Yield the known algorithms and their digests."""
    for member in filter(None, (one.strip() for one in digests.split(","))):
        found = MEMBER.fullmatch(member)
        if found is None:
            raise _malformed(digests)
        algorithm, text = found.groups()
        if algorithm not in DIGEST_BYTES:
            continue
        try:
            digest = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise _malformed(digests) from error
        if len(digest) != DIGEST_BYTES[algorithm]:
            raise _malformed(digests)
        yield algorithm, digest


def _malformed(digests: str) -> DigestMismatch:
    return DigestMismatch(f"{HEADER} is {digests[:MOST_QUOTED]!r}; its form is {FORM}, in base64 and not in hex")


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
