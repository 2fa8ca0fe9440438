"""Job, Result, Event: what API, queue and worker exchange. No torch, no Redis, no HTTP.

A `Job` is pinned when an image is accepted (bundle and thresholds) and never changes. `Findings` are what the worker
measured. A `Result` is the inspection as the REST contract shows it, in every state. An `Event` says that one ended.
Stored JSON is read leniently (unknown fields are ignored), so that old and new processes can share a queue.
"""

from service.contract.event import Event
from service.contract.findings import Decision, Failure, Findings, Quality, QualityReason, Region, Review, Timings
from service.contract.job import (
    DEFAULT_POOL,
    MAX_JOB_BYTES,
    MAX_METADATA_BYTES,
    Job,
    JobTooLarge,
    Metadata,
    Priority,
    Thresholds,
    Traceability,
)
from service.contract.result import FINAL_STATES, MAX_REGIONS, BundleId, Result, State, Verdict
from service.contract.types import (
    ARTIFACT_NAMES,
    IMAGE,
    LONGEST_INFER_WAIT_S,
    LONGEST_WAIT_S,
    ArtifactName,
    InspectionId,
    Message,
    Note,
    Text,
    Timestamp,
    artifact_links,
    new_inspection_id,
    now,
    parse_inspection_id,
    rfc3339,
)

__all__ = [
    "ARTIFACT_NAMES",
    "DEFAULT_POOL",
    "FINAL_STATES",
    "IMAGE",
    "LONGEST_INFER_WAIT_S",
    "LONGEST_WAIT_S",
    "MAX_JOB_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_REGIONS",
    "ArtifactName",
    "BundleId",
    "Decision",
    "Event",
    "Failure",
    "Findings",
    "InspectionId",
    "Job",
    "JobTooLarge",
    "Message",
    "Metadata",
    "Note",
    "Priority",
    "Quality",
    "QualityReason",
    "Region",
    "Result",
    "Review",
    "State",
    "Text",
    "Thresholds",
    "Timestamp",
    "Timings",
    "Traceability",
    "Verdict",
    "artifact_links",
    "new_inspection_id",
    "now",
    "parse_inspection_id",
    "rfc3339",
]
