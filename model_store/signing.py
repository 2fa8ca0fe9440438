"""Signatures of bundles: minisign (Ed25519), beside the manifest and beside those of its exports. No torch.

A manifest names every file with its SHA-256, so that its signature is one over all of them. Where GLAD_BUNDLE_KEYS
names public keys, a store uses only what one of them has signed; where it names none, signatures are not checked.
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
        """Raise ValueError if a key is no public key, or if signatures cannot be checked here."""
        for key in self.keys:
            _public_key(key)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the keys of one text with commas between them.

        Raises:
            ValueError: if one is no public key, or if signatures cannot be checked here.
        """
        return cls(tuple(word.strip() for word in text.split(",") if word.strip()))

    @property
    def any(self) -> bool:
        """Return whether signatures are needed at all."""
        return bool(self.keys)

    def check(self, path: Path, content: bytes) -> None:
        """Check that one of the keys has signed this content of the file; without keys nothing is checked.

        Raises:
            NotSigned: if none of them has.
        """
        if not self.keys:
            return
        beside, minisign = signature_of(path), minisign_library()
        try:
            signature = _read(beside)
        except OSError as error:
            raise self._refusal(path, f"no {beside.name} ({error.strerror})") from error
        for key in self.keys:
            try:
                _public_key(key).verify(content, minisign.Signature.from_bytes(signature))
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
            fix=(
                "let its maker sign it (`glad bundle sign`) and publish it again, or add the key that signed it to "
                "GLAD_BUNDLE_KEYS"
            ),
        )


NO_KEYS = TrustedKeys()
"""No signature is needed."""


def split_keys(value: object) -> object:
    """Return the public keys of one text with commas between them; any other value as it is."""
    return TrustedKeys.from_text(value).keys if isinstance(value, str) else value


def check_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys.

    Raises:
        ValueError: if one is no public key, or if signatures cannot be checked here.
    """
    return TrustedKeys(keys).keys


def signature_of(path: Path) -> Path:
    """Return the path of a file's signature."""
    return path.with_name(path.name + SUFFIX)


def bring_signature(source: Path, target: Path) -> None:
    """Copy the signature of one file to another of the same content, if there is one."""
    signature, place = signature_of(source), signature_of(target)
    if source != target and signature.is_file() and not signature.is_symlink():
        replace_file(place, _read(signature))


def _read(path: Path) -> bytes:
    if path.is_symlink():
        raise OSError(None, "a symbolic link")
    with path.open("rb") as stream:
        return stream.read(MOST_BYTES)


def _public_key(text: str) -> Any:
    try:
        return minisign_library().PublicKey.from_base64(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is no public key of minisign, such as RWQf6LRC… ({error})") from error


def minisign_library() -> Any:
    """Return the module `minisign`.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import minisign
    except ImportError as error:
        raise ValueError("signatures need a library: pip install 'glad-inspect[signing]'") from error
    return minisign
