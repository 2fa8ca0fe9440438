"""Signed bundles: where keys are named, only what one of them has signed is used, weights and exports alike."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from model_store.bundle import open_bundle
from model_store.bundle_signer import make_key, sign_bundle
from model_store.cli.bundle import app
from model_store.engines.export_manifest import EngineUnusable, open_export
from model_store.errors import BrokenBundle, HashMismatch, NotSigned, ProductNotInStore
from model_store.manifest import MANIFEST_NAME
from model_store.signing import TrustedKeys, minisign_library, signature_of
from model_store.store import Store
from service.settings import Settings

Glad = Callable[..., Any]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A secret key without a password."""
    return new_key(tmp_path / "line.key")


@pytest.fixture
def trusted(key: Path) -> TrustedKeys:
    """Its public key."""
    return TrustedKeys.from_text(public_of(key))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A key that nobody trusts."""
    return new_key(tmp_path / "other.key")


@pytest.fixture
def glad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Glad:
    """`glad bundle`, on a data folder of its own."""
    monkeypatch.delenv("GLAD_STORE", raising=False)
    monkeypatch.setenv("GLAD_DATA_DIR", str(tmp_path / "data"))
    return lambda *words, **given: CliRunner().invoke(app, [str(word) for word in words], **given)


def new_key(path: Path) -> Path:
    """Without a password."""
    make_key(path, "")
    return path


def public_of(key: Path) -> str:
    """The public key beside a secret one, as minisign writes it."""
    return key.with_name(f"{key.name}.pub").read_text().splitlines()[1]


def sign(folder: Path, key: Path) -> None:
    """Without a password."""
    sign_bundle(folder, key, lambda: "")


def test_a_signed_bundle_is_used_and_an_unsigned_one_is_named_with_the_way_out(
    bundle_folder: Path, key: Path, trusted: TrustedKeys
) -> None:
    store = Store(bundle_folder.parent.parent, keys=trusted)
    assert store.products() == ()
    [problem] = store.problems()
    assert "expected a signature by a key of GLAD_BUNDLE_KEYS (RW" in problem.reason
    assert "no manifest.json.minisig" in problem.reason
    assert "glad bundle sign" in problem.reason
    with pytest.raises(BrokenBundle, match="signature"):
        store.resolve("toy", "1")

    sign(bundle_folder, key)
    assert store.products() == ("toy",), "a signature that comes later is seen"
    assert store.resolve("toy").open().keys == trusted
    signature_of(bundle_folder / MANIFEST_NAME).unlink()
    assert store.products() == (), "and one that goes"


def test_a_manifest_that_was_swapped_while_the_password_was_asked_for_is_not_signed(
    bundle_folder: Path, tmp_path: Path
) -> None:
    make_key(tmp_path / "guarded.key", "secret")
    manifest = bundle_folder / MANIFEST_NAME

    def swap_and_answer() -> str:
        manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
        return "secret"

    with pytest.raises(HashMismatch, match=MANIFEST_NAME):
        sign_bundle(bundle_folder, tmp_path / "guarded.key", swap_and_answer)
    assert not signature_of(manifest).exists()


def test_where_no_key_is_named_nobody_looks(bundle_folder: Path, key: Path) -> None:
    sign(bundle_folder, key)
    signature_of(bundle_folder / MANIFEST_NAME).write_bytes(b"nonsense")
    assert Store(bundle_folder.parent.parent).resolve("toy").open().hash


@pytest.mark.parametrize("spoilt", ["the manifest", "the signature", "by another key", "of another bundle", "a link"])
def test_what_no_trusted_key_has_signed_is_refused(
    bundle_folder: Path, key: Path, other: Path, trusted: TrustedKeys, spoilt: str
) -> None:
    sign(bundle_folder, other if spoilt == "by another key" else key)
    manifest = bundle_folder / MANIFEST_NAME
    signature = signature_of(manifest)
    if spoilt == "the manifest":
        manifest.write_bytes(manifest.read_bytes().replace(b'"title": ""', b'"title": "mine"') + b" ")
    elif spoilt == "the signature":
        signature.write_bytes(signature.read_bytes()[:-20])
    elif spoilt == "of another bundle":
        secret = minisign_library().SecretKey.from_bytes(key.read_bytes())
        signature.write_bytes(bytes(secret.sign(b"another manifest")))
    elif spoilt == "a link":
        moved = signature.rename(bundle_folder.parent / "elsewhere")
        signature.symlink_to(moved)
    with pytest.raises(NotSigned):
        open_bundle(bundle_folder, trusted)
    assert Store(bundle_folder.parent.parent, keys=trusted).products() == ()


def test_weights_that_were_changed_under_a_good_signature_are_found(
    bundle_folder: Path, key: Path, trusted: TrustedKeys
) -> None:
    sign(bundle_folder, key)
    weights = next(bundle_folder.glob("unet/*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(Exception, match="SHA-256"):
        open_bundle(bundle_folder, trusted)


def test_any_of_several_keys_will_do(bundle_folder: Path, key: Path, other: Path) -> None:
    sign(bundle_folder, other)
    both = TrustedKeys.from_text(f"{public_of(key)}, {public_of(other)}")
    assert Store(bundle_folder.parent.parent, keys=both).products() == ("toy",)


def test_a_signature_goes_with_its_bundle_and_nothing_unsigned_is_published(
    bundle_folder: Path, key: Path, other: Path, trusted: TrustedKeys, tmp_path: Path
) -> None:
    store = Store(tmp_path / "plant", keys=trusted)
    with pytest.raises(NotSigned):
        store.publish(bundle_folder)
    with pytest.raises(ProductNotInStore):
        store.resolve("toy")
    sign(bundle_folder, key)
    assert store.publish(bundle_folder).keys == trusted
    assert store.activate("toy", "1", by="ann").active == "1"

    both = TrustedKeys.from_text(f"{public_of(key)},{public_of(other)}")
    sign(bundle_folder, other)
    assert Store(tmp_path / "plant", keys=both).publish(bundle_folder)
    assert Store(tmp_path / "plant", keys=TrustedKeys.from_text(public_of(other))).products() == ("toy",), "signed anew"


def test_an_export_needs_a_signature_of_its_own(bundle_folder: Path, key: Path, trusted: TrustedKeys) -> None:
    sign(bundle_folder, key)
    folder = bundle_folder / "engines" / "onnx"
    folder.mkdir(parents=True)
    (folder / "export.json").write_text("{}")
    hash_ = open_bundle(bundle_folder, trusted).hash
    with pytest.raises(EngineUnusable, match=r"no export\.json\.minisig"):
        open_export(bundle_folder, hash_, "onnx", trusted)
    sign(bundle_folder, key)
    with pytest.raises(EngineUnusable, match="is not the manifest of an export"):  # looked at only when it is signed
        open_export(bundle_folder, hash_, "onnx", trusted)


def test_the_key_is_its_owners_alone_and_never_overwritten(glad: Glad, tmp_path: Path) -> None:
    file = tmp_path / "new.key"
    made = glad("key", file, input="secret\nsecret\n")
    assert made.exit_code == 0
    assert made.output.strip().endswith(public_of(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = glad("key", file, "--no-password")
    assert (again.exit_code, "exists" in again.output) == (1, True)


def test_the_commands_sign_verify_and_say_by_whom(
    glad: Glad, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new.key"
    glad("key", file, input="secret\nsecret\n")
    wrong = glad("sign", bundle_folder, "--key", file, input="sesame\n")
    assert (wrong.exit_code, "wrong password" in wrong.output) == (1, True)
    nonsense = glad("sign", bundle_folder, "--key", bundle_folder / MANIFEST_NAME)
    assert (nonsense.exit_code, "is no secret key of minisign" in nonsense.output) == (1, True)

    done = glad("sign", bundle_folder, "--key", file, input="secret\n")
    assert done.exit_code == 0, done.output
    assert f"by {public_of(file)}" in done.output
    assert "not checked" in glad("verify", bundle_folder).output
    monkeypatch.setenv("GLAD_BUNDLE_KEYS", public_of(file))
    assert "signed by a key of GLAD_BUNDLE_KEYS" in glad("verify", bundle_folder).output
    assert glad("publish", bundle_folder).exit_code == 0
    assert "toy" in glad("list").output
    monkeypatch.setenv("GLAD_BUNDLE_KEYS", "nonsense")
    refused = glad("list")
    assert (refused.exit_code, "is no public key of minisign" in refused.output) == (2, True)


def test_a_key_that_cannot_be_used_stops_the_service(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_BUNDLE_KEYS", f"{public_of(key)}, ")
    assert Settings().trusted_keys == TrustedKeys.from_text(public_of(key))
    monkeypatch.setenv("GLAD_BUNDLE_KEYS", public_of(key)[:-4])
    with pytest.raises(ValidationError, match="is no public key of minisign"):
        Settings()


@pytest.mark.skipif(shutil.which("minisign") is None, reason="the program minisign is not installed")
def test_minisign_itself_signs_and_verifies(bundle_folder: Path, key: Path, tmp_path: Path) -> None:
    manifest = bundle_folder / MANIFEST_NAME
    theirs = tmp_path / "theirs"
    minisign("-G", "-W", "-p", f"{theirs}.pub", "-s", theirs)
    minisign("-S", "-s", theirs, "-m", manifest)
    assert open_bundle(bundle_folder, TrustedKeys.from_text(public_of(theirs)))
    sign(bundle_folder, key)
    minisign("-V", "-P", public_of(key), "-m", manifest)
    sign(bundle_folder, theirs)
    minisign("-V", "-p", f"{theirs}.pub", "-m", manifest)


def minisign(*words: str | Path) -> None:
    """The program."""
    subprocess.run(["minisign", *map(str, words)], check=True, capture_output=True)
