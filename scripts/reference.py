"""Writes what is looked up into docs/reference, from the code itself: `make reference`. A test fails where they differ.

Settings come from pydantic's fields, errors from their classes, metrics from the registries that a port shows, commands
from the options that they parse, and JSON Schemas from the objects that read the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Metric
from pydantic.fields import FieldInfo

from glad.settings import json_schema
from model_store.manifest import manifest_schema
from scripts.command_reference import cell, commands_page, table, written_by
from service.contract import Result
from service.errors import TYPE_PREFIX, ServiceError
from service.outbox.metrics import OutboxMetrics
from service.outbox.settings import OutboxSettings
from service.settings import Settings
from service.telemetry.metrics.api import ApiMetrics
from service.telemetry.metrics.fleet import FleetCollector, FleetLimits
from service.telemetry.metrics.worker import WorkerMetrics
from service.worker.heartbeat import Heartbeat, WorkerGaugesCollector
from training.recipe_file import SCHEMA, recipe_schema

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
API, WORKER, OUTBOX, SERVE, COMMANDS = "API", "worker", "outbox", "`glad serve`", "commands"
SERVICE = f"{API}, {WORKER}, {OUTBOX}"
GROUPS: dict[str, dict[str, Sequence[str]]] = {
    "Addresses, folders and stores": {
        f"{API}, {SERVE}": ("host", "port"),
        f"{SERVICE}, {COMMANDS}": ("data_dir",),
        f"{API}, {WORKER}, {COMMANDS}": ("store", "bundle_keys"),
        f"{SERVICE}, {SERVE}, {COMMANDS}": ("redis_url",),
        API: ("redis_wait_replicas", "redis_wait_ms"),
        SERVICE: ("redis_answer_s", "artifacts_url"),
        f"{WORKER}, {OUTBOX}": ("worker_host",),
        WORKER: ("worker_port",),
        OUTBOX: ("outbox_port",),
    },
    "Who may call, and how much at a time": {
        f"{API}, {WORKER}, {OUTBOX}": ("auth", "metrics_open"),
        API: (
            *("rate_per_s", "rate_burst", "failures_per_minute", "session_s", "docs", "page"),
            *("cors_origins", "body_timeout_s"),
            *("max_connections", "max_connections_per_address", "max_held_bytes", "max_event_streams", "heartbeat_s"),
            "oip_wait_s",
        ),
    },
    "Images that are taken": {
        API: ("max_image_bytes", "max_backlog", "max_wait_s", "min_free_bytes", "decode_threads", "retry_after_s"),
        f"{API}, {WORKER}": ("max_pixels", "decode_limit_s", "decode_memory_bytes"),
        f"{API}, {COMMANDS}": ("damaged_images",),
    },
    "Workers and models": {
        f"{WORKER}, {COMMANDS}": ("engine", "device"),
        f"{API}, {WORKER}, {SERVE}": ("pool", "pools"),
        WORKER: (
            *("lanes", "decode_buffer", "codec_threads", "torch_threads", "max_bundles", "small_bundles_bytes"),
            *("drain_s", "load_limit_s", "max_deaths"),
        ),
        f"{API}, {WORKER}, {OUTBOX}": ("lease_ms",),
        f"{WORKER}, {OUTBOX}": ("stuck_after_s",),
    },
    "What is kept, and for how long": {
        API: ("artifacts_max_age_s", "artifacts_max_bytes", "sweep_every_s"),
        f"{API}, {WORKER}": ("result_ttl_s", "max_results", "max_events"),
    },
    "Logs and alerts": {API: ("takt_s", "shifts", "time_zone"), f"{SERVICE}, {SERVE}": ("log_level",)},
    "Delivery of events": {
        OUTBOX: (
            *("webhook_urls", "webhook_secret", "webhook_allow", "webhook_ca_file", "webhook_timeout_s"),
            *("webhook_give_up_after_s", "mqtt_url", "mqtt_topic", "mqtt_username", "mqtt_password", "mqtt_client_id"),
            *("mqtt_version", "mqtt_ca_file", "mqtt_cert_file", "mqtt_key_file", "archive", "archive_every_s"),
        ),
    },
}
"""Chapter of the page of settings -> who reads them -> which they are."""
MIB = 1 << 20


def main() -> int:
    """Write all of them anew."""
    for path, text in references().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def references() -> dict[Path, str]:
    """Return each generated file with its text."""
    return {
        FOLDER / "settings.md": settings_page(),
        FOLDER / "errors.md": errors_page(),
        FOLDER / "metrics.md": metrics_page(),
        FOLDER / "cli.md": commands_page(ROOT / "pyproject.toml"),
        FOLDER / "manifest.schema.json": _as_text(manifest_schema()),
        FOLDER / "result.schema.json": _as_text(json_schema(Result.model_json_schema(mode="serialization"), "result")),
        SCHEMA: _as_text(recipe_schema()),
    }


def _as_text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def settings_page() -> str:
    """Return the page of all settings.

    Raises:
        ValueError: if a setting stands in no chapter, or in two.
    """
    listed = [name for readers in GROUPS.values() for names in readers.values() for name in names]
    if sorted(listed) != sorted(OutboxSettings.model_fields):
        odd = set(OutboxSettings.model_fields) ^ set(listed)
        raise ValueError(f"each setting stands once in GROUPS of scripts/reference.py: look at {', '.join(odd)}")
    chapters = [
        f"## {title}\n\n"
        + table(
            ("setting", "default", "allowed", "what it is for", "read by"),
            (_setting_row(name, readers) for readers, names in groups.items() for name in names),
        )
        for title, groups in GROUPS.items()
    ]
    return written_by("Settings") + _SETTINGS_HEAD + "\n".join(chapters)


_SETTINGS_HEAD = """
Every setting is a variable of the environment, such as `GLAD_PORT=9000 glad serve`. In Docker Compose they are lines
of `.env`, on Kubernetes literals of `glad-settings` ([deploy](../deploy.md#settings)). An empty one counts as not
set. One that cannot be used ends the process, which says why. An option of a command, such as `--port`, wins over its
setting.

*Read by* names the programs that use it; the other programs take it and leave it aside. *commands* are those that run
without a service, such as `glad inspect` and `glad train`; they run models on torch unless `GLAD_ENGINE` says
otherwise. `FORWARDED_ALLOW_IPS` (uvicorn's, [security](../security.md#how-often)) and `OTEL_EXPORTER_OTLP_ENDPOINT`
([traces](../telemetry.md#traces)) are read too; `GLAD_URL` and `GLAD_API_KEY` are of the commands that call a
service, such as [`glad camera`](cli.md#glad-camera); without `GLAD_URL` they look on this machine, at `GLAD_PORT`.

"""


def _setting_row(name: str, readers: str) -> tuple[str, ...]:
    field = OutboxSettings.model_fields[name]
    return f"`GLAD_{name.upper()}`", _default(name, field), _allowed(field), cell(field.description or ""), readers


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, Path):
        return f"`{str(value).replace(str(Path.home()), '~')}`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if name.endswith("_bytes") and value % MIB == 0:
        return f"`{value}` ({value // MIB} MiB)"
    return f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    kinds = [kind for kind in get_args(field.annotation) or () if kind is not type(None)]
    if kinds and all(isinstance(kind, str) for kind in kinds):
        return ", ".join(f"`{kind}`" for kind in kinds)
    kind = kinds[0] if kinds and type(None) in get_args(field.annotation) else field.annotation
    types = {bool: "`true`, `false`", int: "a whole number", float: "a number", Path: "a path"}
    limits = [
        f"{words} {limit}"
        for one in field.metadata
        for name, words in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
        if (limit := getattr(one, name, None)) is not None
    ]
    return " ".join(word for word in (types.get(kind, "") if isinstance(kind, type) else "", *limits) if word)


def errors_page() -> str:
    """Return the page of all refusals of the REST interface."""
    rows = (
        (
            str(int(kind.status)),
            f"`{kind.slug}`",
            kind.title,
            cell((kind.__doc__ or "").split("\n")[0]),
            cell(kind.example),
            "yes" if kind.example_retry_after_s is not None else "",
        )
        for kind in error_classes()
    )
    columns = ("status", "type", "title", "when", "what it says and what to do, for example", "`Retry-After`")
    return written_by("Errors") + _ERRORS_HEAD + table(columns, rows)


_ERRORS_HEAD = f"""
Every error of the [REST interface](../api.md#refusals) is `application/problem+json` (RFC 9457). Its `type` is
stable: programs go by it. It is the word below behind `{TYPE_PREFIX}`, such as `{TYPE_PREFIX}unknown-product`. Its
`detail` is for people: what was given, what is allowed, what to do; its words may change. `errors` names the fields
of an `invalid-fields`.

An error without a type of its own is `about:blank`, and its status says all: `404` and `405` of an address that is
not there, `500` of a fault of the service, which its log explains. Under `/v2` errors have the form of the Open
Inference Protocol.

"""


def error_classes() -> list[type[ServiceError]]:
    """Return every error that has a status, by status, then as the file has them."""

    def below(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    return sorted((kind for kind in below(ServiceError) if "slug" in vars(kind)), key=lambda kind: kind.status)


def metrics_page() -> str:
    """Return the page of all metrics."""
    chapters = [
        f"## {title}\n\n" + table(("metric", "type", "labels", "what it says"), rows)
        for title, rows in _metric_chapters().items()
    ]
    return written_by("Metrics") + _METRICS_HEAD + "\n".join(chapters)


_METRICS_HEAD = """
Where they are shown, how to add them up, and which alerts use them: [telemetry](../telemetry.md). A histogram has the
series `…_bucket`, `…_sum` and `…_count`. Each process also shows `process_*`: processor time, memory and open files.

"""


def registries() -> dict[str, CollectorRegistry]:
    """Return what the port of each process shows, before anything has happened."""
    found = {name: CollectorRegistry() for name in ("api", "worker", "outbox")}
    ApiMetrics(found["api"], FleetLimits.from_settings(Settings()))
    WorkerMetrics(found["worker"])
    found["worker"].register(WorkerGaugesCollector(Heartbeat(1), "cpu"))
    OutboxMetrics(found["outbox"])
    return found


def name_of(family: Metric) -> str:
    """Return a metric's name as documents and dashboards write it: a counter with its `_total`."""
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def _metric_chapters() -> dict[str, list[tuple[str, ...]]]:
    fleet = {family.name for family in FleetCollector(FleetLimits.from_settings(Settings())).collect()}
    titles = {"api": "API, of the process itself", "worker": "Worker", "outbox": "Outbox"}
    chapters: dict[str, list[tuple[str, ...]]] = {}
    for process, registry in registries().items():
        labels = _labels(registry)
        for family in registry.collect():
            if family.name.startswith("glad_"):
                shared = "API, of what all processes share: take the maximum over instances"
                title = shared if family.name in fleet else titles[process]
                names = ", ".join(f"`{label}`" for label in labels.get(family.name, ()))
                row = (f"`{name_of(family)}`", family.type, names, cell(family.documentation))
                chapters.setdefault(title, []).append(row)
    return {title: sorted(rows) for title, rows in chapters.items()}


def _labels(registry: CollectorRegistry) -> dict[str, tuple[str, ...]]:
    """Return the labels of every metric, also of one that has counted nothing yet."""
    found = {}
    for source in (*registry._collector_to_names, *registry.collect()):
        if isinstance(names := getattr(source, "_labelnames", None), tuple):
            found[str(getattr(source, "_name", getattr(source, "name", "")))] = names
    return found


if __name__ == "__main__":
    sys.exit(main())
