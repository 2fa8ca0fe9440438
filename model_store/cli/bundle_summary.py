"""What `glad bundle show` prints of a bundle."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import typer

from model_store.manifest import REPORT_PAGE, VerdictThresholds
from model_store.product_state import PicturesWhen, ProductState
from model_store.store import BundleRef

PICTURES_WHEN: dict[PicturesWhen, str] = {"always": "at once", "on_demand": "when somebody asks for one"}


def print_summary(ref: BundleRef, thresholds: VerdictThresholds | None, state: ProductState) -> None:
    """Print what a bundle is: settings, thresholds in force, where it comes from, measured quality."""
    manifest, settings = ref.manifest, ref.manifest.settings
    lines = {
        "bundle": f"{ref.product} {ref.version}  {manifest.title}",
        "hash": ref.hash,
        "folder": str(ref.path),
        "made": f"{manifest.provenance.created_at.isoformat(timespec='seconds')} by `{manifest.provenance.command}`",
        "settings": f"{settings.resolution} px, T {settings.start}, N {settings.steps}, t_min {settings.t_min}, "
        f"delta {settings.trigger.delta:.6g}, layers {', '.join(map(str, settings.score.layers))}",
        "thresholds": _in_force(ref, thresholds),
        "gate": _gate(ref, state),
        "pictures": _pictures(state),
        "report": _report(ref),
    }
    for role, component in manifest.components.items():
        megabytes = sum(entry.bytes for entry in component.files.values()) / 1e6
        lines[role] = f"{component.kind}, {component.dtype}, {megabytes:.1f} MB, {component.licence}"
    lines |= _measured(manifest.quality)
    for name, line in lines.items():
        typer.echo(f"{name:<12} {line}")


def _figure_in_words(figure: Any) -> str:
    """Return a measured figure: its own sentences, or all of it where it has none."""
    if isinstance(figure, dict) and isinstance(sentences := figure.get("sentences"), list):
        return "".join(f"\n             {sentence}" for sentence in sentences)
    return json.dumps(figure)


def print_history(state: ProductState) -> None:
    """Print the changes of what is active, the latest first."""
    for entry in reversed(state.history):
        when = entry.at.isoformat(timespec="seconds")
        typer.echo(f"{'history':<12} {when} {entry.kind} {entry.version} by {entry.by} {entry.note}".rstrip())


def to_calibrate(ref: BundleRef) -> str:
    """Return a bundle without thresholds, with the command that finds them."""
    return f"{ref.product} {ref.version}: {shlex.join(['glad', 'calibrate', str(ref.path)])} --data DIR"


def _in_force(ref: BundleRef, thresholds: VerdictThresholds | None) -> str:
    calibration = ref.manifest.calibration
    if thresholds is None or calibration is None:
        return f"none: not calibrated; {to_calibrate(ref)}"
    shown = f"review {thresholds.review:.6g}  fail {thresholds.fail:.6g}  pixel {thresholds.pixel:.6g}"
    return f"{shown}  (from {calibration.good_images} good images)"


def _measured(quality: Mapping[str, Any]) -> dict[str, str]:
    """Return what was measured when the bundle was made: what a person reads as a sentence, the rest as it is kept.

    What is known of the gate stands in the line of its switch.
    """
    calibration = quality.get("calibration", {})
    lines = {"promise": calibration.get("warning") or calibration.get("promise")}
    if unusual := calibration.get("most_unusual"):
        lines["unusual"] = "good images with the highest scores: " + ", ".join(
            f"{one['image']} {one['score']:.2f}" for one in unusual
        )
    lines |= {name: _figure_in_words(figure) for name, figure in quality.items() if name not in ("calibration", "gate")}
    return {name: line for name, line in lines.items() if line}


def _gate(ref: BundleRef, state: ProductState) -> str:
    if ref.manifest.gate is None:
        return "none: every image is inspected"
    switch, learned = state.gate, f"(from {ref.manifest.gate.good_images} good images{_stopped(ref)})"
    if switch is None:
        return f"on  {learned}"
    when = switch.at.isoformat(timespec="seconds")
    return f"{'on' if switch.on else 'off'} since {when}, by {switch.by} {switch.note}".rstrip() + f"  {learned}"


def _stopped(ref: BundleRef) -> str:
    learned = ref.manifest.quality.get("gate", {})
    if (share := learned.get("good_parts_gated_at_most")) is None:
        return ""
    return "; ".join(("", f"stops at most {share:.1%} of the good parts", *filter(None, [learned.get("warning")])))


def _report(ref: BundleRef) -> str:
    if REPORT_PAGE not in ref.manifest.report:
        return f"none of its training; of what is known: {shlex.join(['glad', 'report', str(ref.path)])}"
    page = ref.path / REPORT_PAGE
    return str(page) if page.is_file() else f"not brought along: the training wrote one, and {page} is not there"


def _pictures(state: ProductState) -> str:
    choice, shown = state.pictures, f"of parts that pass: {PICTURES_WHEN[state.pictures_when]}"
    if choice is None:
        return shown
    when = choice.at.isoformat(timespec="seconds")
    return f"{shown}, since {when}, by {choice.by} {choice.note}".rstrip()
