"""The manifest of a bundle: components with hashes, settings, calibration, provenance, measured quality. No torch.

A bundle is a folder: `manifest.json` and one folder per component in Hugging Face layout (`config.json` and one
safetensors file). The manifest names every file with its SHA-256; a file it does not name is refused. The bundle's hash
is the SHA-256 of the manifest's bytes, so one hash stands for every weight and setting. A bundle that was imported and
not calibrated yet has no thresholds, and gives no verdict.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, model_validator

from glad.quality_gate.limits import QualityGate
from glad.settings import Frozen, json_schema
from glad.settings.method import MethodSettings, near_tie
from model_store.errors import NotCalibrated


class Verdict(StrEnum):
    """The decision on a part. The absence of a verdict never means `pass`."""

    PASS = "pass"
    REVIEW = "review"
    FAIL = "fail"


class VerdictThresholds(Frozen):
    """The scores from which a part is `review` and `fail`, and the map value from which a pixel is defective."""

    model_config = ConfigDict(allow_inf_nan=False)

    review: float = Field(description="score from which the verdict is `review`")
    fail: float = Field(gt=0, description="score from which the verdict is `fail`")
    pixel: float = Field(gt=0, description="map value from which a pixel belongs to a defect region")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.review > self.fail:
            raise ValueError(f"review threshold {self.review} lies above fail threshold {self.fail}: lower it")
        return self

    def verdict(self, score: float) -> Verdict:
        """Return `fail` at or above the fail threshold, `review` at or above the review threshold, else `pass`.

        Raises:
            ValueError: if the score is not finite: it has no verdict.
        """
        if not math.isfinite(score):
            raise ValueError(f"score is {score}: no verdict can be given; fail the inspection instead")
        if score >= self.fail:
            return Verdict.FAIL
        return Verdict.REVIEW if score >= self.review else Verdict.PASS

    def near_tie(self, score: float) -> bool:
        """Return whether a score lies so near a threshold that elsewhere its verdict may be the other one."""
        return near_tie(score, self.review) or near_tie(score, self.fail)

    def calibrate(self, score: float) -> float:
        """Return s / (s + fail threshold), in [0, 1): monotone, 0.5 at the fail threshold.

        A score is never negative; a rounding error below 0 counts as 0.
        """
        return max(score, 0.0) / (max(score, 0.0) + self.fail)

    @property
    def heatmap_top(self) -> float:
        """Return the map value that is drawn in the hottest colour: twice the pixel threshold."""
        return 2.0 * self.pixel


ComponentName = Literal["autoencoder", "unet", "features", "condition", "backbone", "embedding", "memory", "decoder"]
Kind = Literal[
    "autoencoder_kl",
    "unet2d",
    "unet2d_condition",
    "vit",
    "dinov2",
    "dinov2_with_registers",
    "efficientnet_lite",
    "text_condition",
    "latent_space",
    "patch_memory",
    "autoencoder_tiny",
]
Dtype = Literal["float16", "bfloat16", "float32"]


class Form(StrEnum):
    """What images become, how two of them are compared, and how they become a picture: decided by the components."""

    PIXEL = "pixel"
    """The paper's: the latent of an autoencoder; features of decoded pictures; the autoencoder (`PixelModels`)."""
    FEATURE = "feature"
    """The embedding of a frozen backbone; the latents themselves; a small decoder (`FeatureModels`)."""


FORM_COMPONENTS: Mapping[Form, tuple[ComponentName, ...]] = {
    Form.PIXEL: ("autoencoder", "unet", "features"),
    Form.FEATURE: ("backbone", "embedding", "unet", "memory", "decoder"),
}
"""The components that make each form's networks; of a bundle that has those of several forms the first one counts."""


def form_of(components: Collection[str]) -> Form:
    """Return the form that components of these names make.

    Raises:
        ValueError: if they make none; the message says what each form lacks.
    """
    lacking = []
    for form, needed in FORM_COMPONENTS.items():
        missing = [name for name in needed if name not in components]
        if not missing:
            return form
        lacking.append(f"component(s) {', '.join(missing)} missing: a bundle of form {form} has {', '.join(needed)}")
    raise ValueError("; ".join(lacking))


LATER_FIELDS: tuple[tuple[str, ...], ...] = (
    ("gate",),
    ("calibration", "groups"),
    ("calibration", "kind"),
    ("settings", "noise"),
    ("settings", "preparation"),
    ("settings", "score", "evidence"),
    ("settings", "doubtful"),
    ("report",),
)
"""Fields of the manifest that came after its first bundles were published."""
MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.json"
EXPORTS = "engines"
"""Folder of a bundle's exports, which the manifest does not name: see `model_store.engines.export_manifest`."""
REPORT = "report"
"""Folder of a bundle's report of the training, which the manifest names; it may be taken away."""
REPORT_PAGE = f"{REPORT}/report.html"
KINDS: Mapping[ComponentName, tuple[Kind, ...]] = {
    "autoencoder": ("autoencoder_kl", "autoencoder_tiny"),
    "unet": ("unet2d", "unet2d_condition"),
    "features": ("vit",),
    "condition": ("text_condition",),
    "backbone": ("efficientnet_lite", "dinov2", "dinov2_with_registers", "vit"),
    "embedding": ("latent_space",),
    "memory": ("patch_memory",),
    "decoder": ("autoencoder_tiny",),
}
"""What each component can be. `condition`: what a text-conditioned UNet is told of the product. `backbone`: a frozen,
pretrained network, see `model_store.backbones`. The last three: see `model_store.engines.feature_form`."""
WEIGHTS_NAME: Mapping[Kind, str] = {
    "autoencoder_kl": "diffusion_pytorch_model.safetensors",
    "unet2d": "diffusion_pytorch_model.safetensors",
    "unet2d_condition": "diffusion_pytorch_model.safetensors",
    "vit": "model.safetensors",
    "dinov2": "model.safetensors",
    "dinov2_with_registers": "model.safetensors",
    "efficientnet_lite": "model.safetensors",
    "text_condition": "model.safetensors",
    "latent_space": "model.safetensors",
    "patch_memory": "model.safetensors",
    "autoencoder_tiny": "diffusion_pytorch_model.safetensors",
}
"""The one weights file of each kind, as `from_pretrained` looks for it."""
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"


def check_name(name: str) -> str:
    """Return a product's or version's name that is safe in a URL, a path and a Redis key.

    Raises:
        ValueError: if it is not.
    """
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
        """Return the SHA-256 of the files' names and hashes: equal for equal weights, whatever product uses them."""
        lines = "".join(f"{path.split('/', 1)[-1]} {entry.sha256}\n" for path, entry in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


class CalibrationKind(StrEnum):
    """How the scores behind the thresholds came about, and with it what may be promised from them."""

    HELD_OUT = "held_out"
    """Of parts that nothing was learnt from: the promise holds."""
    LEAVE_GROUP_OUT = "leave_group_out"
    """Each of a memory that lacks the image's own part: the promise holds on average, see docs/calibration.md."""
    ESTIMATE = "estimate"
    """Each of models that are not those of the bundle, such as a coreset or networks fitted again: no promise."""


class Calibration(VerdictThresholds):
    """Thresholds found on scores of good images; `kind` says how these scores came about."""

    review_quantile: float = Field(0.90, gt=0, lt=1)
    fail_quantile: float = Field(0.98, gt=0, lt=1)
    pixel_quantile: float = Field(gt=0, lt=1)
    confidence: float | None = Field(None, gt=0, lt=1, description="of the quantiles; None: they hold on average")
    good_images: int = Field(ge=1)
    groups: int | None = Field(None, ge=1, description="parts in these images; None: each counts as a part of its own")
    kind: CalibrationKind = Field(CalibrationKind.HELD_OUT, description="how the scores came about")
    good_scores: tuple[float, ...] = Field(description="sorted scores of the good images, for drift and recalibration")
    calibrated_for: Sha256 | None = Field(None, description="digest of settings and weights; None: not recorded")


def calibration_digest(settings: MethodSettings, components: Mapping[ComponentName, Component]) -> str:
    """Return the SHA-256 of all that thresholds belong to: every setting and every weight.

    Framing, zones and noise seed are settings like the others: each of them changes a good part's score. A setting at
    its default is left out, so that thresholds stay valid under a later version that knows more settings.
    """
    belongs = {
        "settings": settings.model_dump(mode="json", exclude_defaults=True),
        "components": {name: component.content_hash for name, component in components.items()},
    }
    return hashlib.sha256(json.dumps(belongs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Provenance(Frozen):
    """The origin of a bundle."""

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
    calibration: Calibration | None = Field(description="None: imported, not calibrated yet")
    gate: QualityGate | None = Field(None, description="which images are fit for inspection; None: all of them")
    provenance: Provenance
    quality: dict[str, Any] = Field(default_factory=dict, description="measured figures, each with how it was measured")
    report: dict[str, FileEntry] = Field(
        default_factory=dict,
        description="the files of the report of the training: path inside the bundle -> entry; each may be missing",
    )

    @model_validator(mode="after")
    def _report_in_its_folder(self) -> Self:
        for path in self.report:
            folder, _, file = path.partition("/")
            if folder != REPORT or not re.fullmatch(FILE_PATTERN, file):
                raise ValueError(f"file path {path!r} is not allowed in the report: use '{REPORT}/<file>'")
        return self

    @model_validator(mode="after")
    def _components_whole(self) -> Self:
        form_of(self.components)
        for name, component in self.components.items():
            for path in component.files:
                folder, _, file = path.partition("/")
                if folder != name or not re.fullmatch(FILE_PATTERN, file):
                    raise ValueError(f"file path {path!r} is not allowed in component {name}: use '{name}/<file>'")
        return self

    @model_validator(mode="after")
    def _kinds_fit(self) -> Self:
        if problems := "; ".join(self._kind_problems()):
            raise ValueError(problems)
        return self

    def _kind_problems(self) -> Iterator[str]:
        for name, component in self.components.items():
            if component.kind not in KINDS[name]:
                yield f"component {name} is of kind {component.kind}; it must be {' or '.join(KINDS[name])}"
        conditioned, unet = "condition" in self.components, self.components["unet"].kind
        if unet == "unet2d_condition" and not conditioned:
            yield "the unet is of kind unet2d_condition and needs component condition: add the embedded prompts"
        if unet == "unet2d" and conditioned:
            yield "the unet is of kind unet2d, which takes no condition: remove component condition"
        if self.settings.guidance != 1 and unet != "unet2d_condition":
            yield (
                f"guidance is {self.settings.guidance}; it needs a unet of kind unet2d_condition, this one is {unet}: "
                "set guidance to 1"
            )

    @model_validator(mode="after")
    def _thresholds_belong_here(self) -> Self:
        digest = None if self.calibration is None else self.calibration.calibrated_for
        if digest is None or digest == (here := calibration_digest(self.settings, self.components)):
            return self
        raise ValueError(
            f"thresholds were calibrated under other settings or weights (digest {digest[:12]}, here {here[:12]}): "
            "take the bundle as it was published, and change its settings with `glad calibrate --settings FILE`"
        )

    @property
    def form(self) -> Form:
        """Return the form of the models that the components make."""
        return form_of(self.components)

    @property
    def thresholds(self) -> Calibration:
        """Return the calibrated thresholds.

        Raises:
            NotCalibrated: if there are none yet.
        """
        if self.calibration is None:
            raise NotCalibrated.for_version(self.product, self.version)
        return self.calibration

    @property
    def files(self) -> dict[str, FileEntry]:
        """Return every file that a bundle cannot do without, but the manifest: path inside the bundle -> entry."""
        return {path: entry for component in self.components.values() for path, entry in component.files.items()}

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are written and hashed.

        `LATER_FIELDS` at their defaults are left out, so that versions of before there were any can read them.
        """
        given = self.model_dump(exclude_defaults=True)
        absent: dict[str, Any] = {}
        for *outer, name in (path for path in LATER_FIELDS if _at_default(given, path)):
            place = absent
            for part in outer:
                place = place.setdefault(part, {})
            place[name] = True
        return (self.model_dump_json(indent=2, exclude=absent) + "\n").encode()


def _at_default(given: Any, path: Sequence[str]) -> bool:
    """Return whether a manifest dumped without its defaults lacks the field of this path."""
    for name in path:
        if not isinstance(given, dict) or name not in given:
            return True
        given = given[name]
    return False


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of `manifest.json`. That the parts fit together, only `Manifest` itself can tell."""
    return json_schema(Manifest.model_json_schema(), "manifest")


def bundle_hash(manifest_bytes: bytes) -> str:
    """Return the SHA-256 of a manifest's bytes: the bundle's identity."""
    return hashlib.sha256(manifest_bytes).hexdigest()
