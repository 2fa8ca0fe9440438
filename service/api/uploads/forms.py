"""Multipart forms: images are the files named `image`, everything else is a text field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.uploads.digests import HEADER, check_digest
from service.errors import InvalidFields, MalformedForm

IMAGE_FIELD = "image"
MAX_FIELD_BYTES = 8192


@dataclass(frozen=True)
class MultipartForm:
    """The content of a form, before anything of it was checked."""

    images: tuple[bytes, ...]
    texts: tuple[tuple[str, str], ...]
    """(name, value) of each field, in the order of the form; a name may come twice."""


@dataclass
class _Part:
    """A part of a form while it is read."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)


def read_form(content_type: str, body: bytes, max_parts: int) -> MultipartForm:
    """Return the form's images and fields.

    Raises:
        DigestMismatch: if a part is not what its Content-Digest says.
        MalformedForm: if the body cannot be read as a form of at most `max_parts` parts.
        InvalidFields: if a field is too long, no text, or a file of another name than `image`.
    """
    images: list[bytes] = []
    texts: list[tuple[str, str]] = []
    for name, is_file, content in _read_parts(content_type, body, max_parts):
        if name == IMAGE_FIELD:
            images.append(content)
        elif is_file:
            raise InvalidFields.for_field(
                name, f"is a file; the only file is {IMAGE_FIELD!r}: send text as a plain field"
            )
        else:
            texts.append((name, _read_text(name, content)))
    return MultipartForm(tuple(images), tuple(texts))


def _read_text(name: str, content: bytes) -> str:
    if len(content) > MAX_FIELD_BYTES:
        raise InvalidFields.for_field(name, f"is {len(content)} bytes; at most {MAX_FIELD_BYTES} are allowed")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidFields.for_field(name, "is not UTF-8") from error


def _read_parts(content_type: str, body: bytes, max_parts: int) -> list[tuple[str, bool, bytes]]:
    """Return (name, whether it came with a file name, content) of every part."""
    reader = _FormReader(max_parts)
    _, options = parse_options_header(content_type)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (KeyError, ValueError) as error:
        reason = "the header names no boundary" if isinstance(error, KeyError) else str(error)
        raise MalformedForm(
            f"the multipart body cannot be read ({reason}): let the HTTP library make it, or send the image as the body"
        ) from error
    if not reader.ended:
        raise MalformedForm("the multipart body ends before its closing boundary: it was cut off; send it again")
    return [_read_part(part) for part in reader.parts]


def _read_part(part: _Part) -> tuple[str, bool, bytes]:
    _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
    if b"name" not in options:
        raise MalformedForm("a part of the form has no name: send `Content-Disposition: form-data; name=...`")
    name, content = options[b"name"].decode(errors="replace"), bytes(part.content)
    if digests := part.headers.get(HEADER.lower().encode()):
        check_digest(digests.decode("latin-1"), content, f"the part {name[:64]!r}")
    return name, b"filename" in options, content


class _FormReader:
    """Collects the parts that the parser reports, in memory: the whole body is there already, and is limited."""

    def __init__(self, max_parts: int) -> None:
        self._max_parts = max_parts
        self.parts: list[_Part] = []
        self.ended = False
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> Any:
        """Return what the parser calls, under the names that it knows."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self.parts[-1].content.extend(data[start:end]),
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        if len(self.parts) == self._max_parts:
            raise MultipartParseError(f"more than {self._max_parts} parts")
        self.parts.append(_Part())

    def _end_header(self) -> None:
        self.parts[-1].headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        self.ended = True
