"""The effect that other limits of the quality gate would have had on the images whose measures are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from glad.quality_gate.limits import GateMeasures, QualityGate, check_limits
from glad_client.answers import SHOWN_EXAMPLES
from glad_client.product_answers import GateEffect
from model_store.store import BundleRef
from service.api.dependencies import Services
from service.api.routes.stored_results import expected_changes, has_measures, read_recent

_MEASURES = TypeAdapter(GateMeasures)


@dataclass(frozen=True)
class JudgedImage:
    """An image that the gate judged: what it measured, and what came of it."""

    id: str
    measures: GateMeasures
    passed: bool
    finished_at: datetime | None


async def gate_effect(services: Services, ref: BundleRef, gate: QualityGate, last: int) -> GateEffect:
    """Return what these limits would have done to the version's last images that the gate judged."""
    effect = compare_limits(await judged_images(services, ref, last), gate)
    expected = await expected_changes(services, ref.product, effect.changed, effect.compared)
    return effect.model_copy(update=expected)


async def judged_images(services: Services, ref: BundleRef, last: int) -> list[JudgedImage]:
    """Return the version's last images whose measures are kept, the latest first."""
    images = []
    for one in await read_recent(services, ref, has_measures, last):
        try:
            measures = _MEASURES.validate_python(one.measures)
        except ValidationError:  # by a worker of another version, which measures something else
            continue
        images.append(JudgedImage(one.id, measures, one.passed, one.finished_at))
    return images


def compare_limits(images: Sequence[JudgedImage], gate: QualityGate) -> GateEffect:
    """Return what these limits would have done to images, given latest first."""
    changed = [one for one in images if one.passed == bool(check_limits(gate, one.measures))]
    stopped = sum(one.passed for one in changed)
    return GateEffect(
        compared=len(images),
        changed=len(changed),
        newly_stopped=stopped,
        newly_inspected=len(changed) - stopped,
        per_day=None,
        oldest=images[-1].finished_at if images else None,
        examples=[one.id for one in changed[:SHOWN_EXAMPLES]],
    )
