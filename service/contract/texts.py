"""What people and machines write into fields: printable, and of a bounded length."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints


def check_text(text: str) -> str:
    """The text, or ValueError: it is not printable."""
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("holds a control character or half a surrogate pair: use printable text")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(check_text)]
Note = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(check_text)]
