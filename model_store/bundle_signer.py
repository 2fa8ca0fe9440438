"""Sign a bundle, and make the key for it: in minisign's formats, so that its own tool can do both too. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_store.bundle import open_bundle
from model_store.engines.export_manifest import EXPORT_NAME
from model_store.errors import HashMismatch
from model_store.files import replace_file, sync_folder
from model_store.manifest import EXPORTS, MANIFEST_NAME, bundle_hash
from model_store.signing import minisign_library, signature_of
from model_store.verification import REPUBLISH


def make_key(path: Path, password: str) -> str:
    """Write a new secret key to `path`, readable by its owner alone, and return its public key.

    The public key is written beside it as `.pub`. An empty password leaves the secret key unencrypted.

    Raises:
        FileExistsError: if one of the files is there already.
        ValueError: if the library is not installed.
    """
    pair = minisign_library().KeyPair.generate()
    public: str = pair.public_key.to_base64().decode()
    if password:
        pair.secret_key.encrypt(password)
    for file, content, mode in (
        (path, bytes(pair.secret_key), 0o600),
        (path.with_name(path.name + ".pub"), bytes(pair.public_key), 0o644),
    ):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    sync_folder(path.parent)
    return public


def sign_bundle(folder: Path, key: Path, read_password: Callable[[], str]) -> tuple[list[Path], str]:
    """Verify a bundle, sign its manifest and those of its exports; return the signatures' paths and the public key.

    Args:
        folder: of the bundle.
        key: file of the secret key.
        read_password: called for the key's password, if it has one.

    Raises:
        BundleError: if a file is not as published.
        OSError: if a file cannot be read or written.
        ValueError: if the key is no secret key, the password is wrong, or the library is not installed.
    """
    bundle = open_bundle(folder)
    secret = _open_key(key, read_password)
    comment = f"glad bundle {bundle.manifest.product} {bundle.manifest.version}"
    signed = []
    for file in (bundle.path / MANIFEST_NAME, *sorted((bundle.path / EXPORTS).glob(f"[!.]*/{EXPORT_NAME}"))):
        content = file.read_bytes()
        if file.name == MANIFEST_NAME and bundle_hash(content) != bundle.hash:  # while the password was asked for
            raise HashMismatch(file, expected=bundle.hash, found=bundle_hash(content), fix=REPUBLISH)
        signature = secret.sign(content, trusted_comment=f"{comment} {file.relative_to(bundle.path)}")
        replace_file(signature_of(file), bytes(signature) + b"\n")
        signed.append(signature_of(file))
    return signed, secret.get_public_key().to_base64().decode()


def _open_key(path: Path, read_password: Callable[[], str]) -> Any:
    try:
        secret = minisign_library().SecretKey.from_bytes(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no secret key of minisign ({error}): `glad bundle key FILE` makes one") from error
    if secret.is_encrypted():
        try:
            secret.decrypt(read_password())
        except ValueError as error:
            raise ValueError(f"{path}: wrong password ({error})") from error
    return secret
