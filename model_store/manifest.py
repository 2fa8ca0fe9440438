"""What a bundle is: components with hashes, settings, calibration, provenance, measured quality. No torch.

A bundle is a folder: `manifest.json` and one folder per component in Hugging Face layout (`config.json` and one
safetensors file). The manifest names every file with its SHA-256; a file it does not name is refused. The bundle's hash
is the SHA-256 of the manifest's bytes, so one hash stands for every weight and setting.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from glad.frozen import Frozen
from glad.settings import MethodSettings
from model_store.thresholds import Thresholds

ComponentName = Literal["autoencoder", "unet", "features"]
Kind = Literal["autoencoder_kl", "unet2d", "unet2d_condition", "vit"]
Dtype = Literal["float16", "bfloat16", "float32"]

COMPONENT_NAMES: tuple[ComponentName, ...] = get_args(ComponentName)
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"


def check_name(name: str) -> str:
    """A product's or version's name that is safe in a URL, a path and a Redis key, or ValueError."""
    if not re.fullmatch(NAME_PATTERN, name) or ".." in name:
        raise ValueError(f"name {name!r} is not allowed: use 1-64 of a-z 0-9 . _ -, first a letter or digit, no '..'")
    return name


Name = Annotated[str, AfterValidator(check_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Frozen):
    """One file of a component."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Component(Frozen):
    """One model: a folder in Hugging Face layout."""

    kind: Kind
    dtype: Dtype
    files: dict[str, FileEntry] = Field(min_length=1, description="path inside the bundle -> entry")
    licence: str = Field(description="licence of the weights and what they were made from")

    @property
    def content_hash(self) -> str:
        """SHA-256 over the files' names and hashes: equal for equal weights, whatever product uses them."""
        lines = "".join(f"{path.split('/', 1)[-1]} {entry.sha256}\n" for path, entry in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


class Calibration(Thresholds):
    """Thresholds found on good images that no training saw."""

    review_quantile: float = Field(0.90, gt=0, lt=1)
    fail_quantile: float = Field(0.98, gt=0, lt=1)
    pixel_quantile: float = Field(gt=0, lt=1)
    confidence: float | None = Field(None, gt=0, lt=1, description="of the quantiles; None: they hold on average")
    good_images: int = Field(ge=1)
    good_scores: tuple[float, ...] = Field(description="sorted scores of the good images, for drift and recalibration")


class Provenance(Frozen):
    """Where a bundle comes from."""

    created_at: AwareDatetime
    command: str
    recipe: dict[str, Any]
    data: dict[str, Any]
    software: dict[str, str]
    seed: int


class Manifest(Frozen):
    """The whole of `manifest.json`."""

    format: Literal[1] = 1
    product: Name
    version: Name
    title: str = ""
    settings: MethodSettings
    components: dict[ComponentName, Component]
    calibration: Calibration
    provenance: Provenance
    quality: dict[str, Any] = Field(default_factory=dict, description="measured figures, each with how it was measured")

    @model_validator(mode="after")
    def _components_whole(self) -> Self:
        if missing := [name for name in COMPONENT_NAMES if name not in self.components]:
            raise ValueError(f"component(s) {', '.join(missing)} missing: a bundle has {', '.join(COMPONENT_NAMES)}")
        for name, component in self.components.items():
            for path in component.files:
                folder, _, file = path.partition("/")
                if folder != name or not re.fullmatch(FILE_PATTERN, file):
                    raise ValueError(f"file path {path!r} is not allowed in component {name}: use '{name}/<file>'")
        return self

    @property
    def files(self) -> dict[str, FileEntry]:
        """Every file but the manifest itself: path inside the bundle -> entry."""
        return {path: entry for component in self.components.values() for path, entry in component.files.items()}

    def to_bytes(self) -> bytes:
        """The canonical bytes that are written and hashed."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def bundle_hash(manifest_bytes: bytes) -> str:
    """SHA-256 of a manifest's bytes: the bundle's identity."""
    return hashlib.sha256(manifest_bytes).hexdigest()
