"""Who made a bundle: minisign signatures (Ed25519) beside its manifest, and beside those of its exports. No torch.

A manifest names every file with its SHA-256, so that its signature is one over all of them. Where GLAD_BUNDLE_KEYS
names public keys, a store uses nothing that none of them has signed; where it names none, nobody looks.
https://jedisct1.github.io/minisign
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from model_store.errors import NotSigned
from model_store.files import replace_file

SUFFIX = ".minisig"
MOST_BYTES = 4096


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys whose signatures count, as minisign writes them: `RWQ…`."""

    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """ValueError for what is no public key, or where signatures cannot be checked here."""
        for key in self.keys:
            _public_key(key)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """From one text with commas between the keys; ValueError."""
        return cls(tuple(word.strip() for word in text.split(",") if word.strip()))

    @property
    def any(self) -> bool:
        """Whether signatures are asked for at all."""
        return bool(self.keys)

    def check(self, path: Path, content: bytes) -> None:
        """NotSigned unless one of the keys has signed this content of the file, or none is asked for."""
        if not self.keys:
            return
        beside, minisign = signature_of(path), library()
        try:
            given = _read(beside)
        except OSError as error:
            raise self._refusal(path, f"no {beside.name} ({error.strerror})") from error
        for key in self.keys:
            try:
                _public_key(key).verify(content, minisign.Signature.from_bytes(given))
            except ValueError as error:  # minisign's errors are of this kind
                last = error
                continue
            return
        raise self._refusal(path, f"a signature that none of them has made ({last})") from last

    def _refusal(self, path: Path, found: str) -> NotSigned:
        return NotSigned(
            path,
            expected=f"a signature by a key of GLAD_BUNDLE_KEYS ({', '.join(key[:12] + '…' for key in self.keys)})",
            found=found,
            fix="have whoever made the bundle sign it (`glad bundle sign`) and publish it again, or name their key",
        )


NOBODY = TrustedKeys()
"""No signature is asked for."""


def split_keys(given: object) -> object:
    """Public keys apart, of one text with commas between."""
    return TrustedKeys.from_text(given).keys if isinstance(given, str) else given


def check_keys(given: tuple[str, ...]) -> tuple[str, ...]:
    """The keys, if they can be used; else ValueError."""
    return TrustedKeys(given).keys


def signature_of(path: Path) -> Path:
    """Where the signature of a file lies."""
    return path.with_name(path.name + SUFFIX)


def bring_signature(source: Path, target: Path) -> None:
    """Copies the signature of one file to another of the same content, if there is one."""
    given, place = signature_of(source), signature_of(target)
    if source != target and given.is_file() and not given.is_symlink():
        replace_file(place, _read(given))


def _read(path: Path) -> bytes:
    if path.is_symlink():
        raise OSError(None, "a symbolic link")
    with path.open("rb") as stream:
        return stream.read(MOST_BYTES)


def _public_key(text: str) -> Any:
    try:
        return library().PublicKey.from_base64(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is no public key of minisign, such as RWQf6LRC… ({error})") from error


def library() -> Any:
    """The module `minisign`; ValueError where it is not installed."""
    try:
        import minisign
    except ImportError as error:
        raise ValueError("signatures need a library: pip install 'glad-inspect[signing]'") from error
    return minisign
