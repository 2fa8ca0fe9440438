"""What an export needs to know of the form of the models, by the form that their components make.

A form says which pieces its networks are exported as, which sizes an export records, on which inputs each network is
compared (parity), and which ones int8 finds its ranges on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glad.models import ComponentModels
from glad.settings.method import MethodSettings
from model_store.engines.export_manifest import ExportShapes, Part
from model_store.manifest import Form, form_of
from training.export.component_parity import ComponentTrial
from training.export.feature_form import feature_pieces, feature_samples, feature_shapes, feature_trials
from training.export.onnx import Piece
from training.export.pixel_form import pixel_pieces, pixel_samples, pixel_shapes, pixel_trials
from training.synthesis.probes import Probe


@dataclass(frozen=True)
class FormExport:
    """How the models of one form are exported and compared; each takes models of that form."""

    shapes: Callable[[Any, MethodSettings], ExportShapes]
    pieces: Callable[[Any, Any], Mapping[Part, Piece]]
    trials: Callable[[Any, MethodSettings, Sequence[Probe], str], Iterator[ComponentTrial]]
    samples: Callable[[Any, MethodSettings, Sequence[Probe], Part], Sequence[Mapping[str, Tensor]]]


FORM_EXPORTS: Mapping[Form, FormExport] = {
    Form.PIXEL: FormExport(pixel_shapes, pixel_pieces, pixel_trials, pixel_samples),
    Form.FEATURE: FormExport(feature_shapes, feature_pieces, feature_trials, feature_samples),
}


def export_form(models: ComponentModels) -> FormExport:
    """Return what an export needs to know of the form of these models.

    Raises:
        ValueError: if their components make no form.
    """
    return FORM_EXPORTS[form_of(models.components)]


def shapes_of(models: ComponentModels, settings: MethodSettings) -> ExportShapes:
    """Return the shapes that an export of these models under these settings will have."""
    return export_form(models).shapes(models, settings)


def pieces(models: ComponentModels, settings: MethodSettings) -> Mapping[Part, Piece]:
    """Return the networks of models as they are exported under these settings.

    Raises:
        TypeError: unless they are torch's.
    """
    form = export_form(models)
    return form.pieces(models, form.shapes(models, settings))
