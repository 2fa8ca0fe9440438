"""Job, Result, Event: what API, queue and worker exchange. No torch, no Redis, no HTTP.

A `Job` is pinned when an image is accepted (bundle and thresholds) and never changes. `Findings` are what the worker
measured. A `Result` is the inspection as the REST contract shows it, in every state. An `Event` says that one ended.
Stored JSON is read leniently (unknown fields are ignored), so that old and new processes can share a queue.
"""

from service.contract.artifacts import ARTIFACT_NAMES, IMAGE, ArtifactName, artifact_links
from service.contract.event import Event
from service.contract.findings import Failure, Findings, Region, Timings
from service.contract.ids import InspectionId, new_inspection_id, parse_inspection_id
from service.contract.job import DEFAULT_POOL, MAX_JOB_BYTES, Job, JobTooLarge, Priority, Thresholds, Traceability
from service.contract.metadata import MAX_METADATA_BYTES, Metadata
from service.contract.quality import Quality, QualityReason
from service.contract.result import FINAL_STATES, MAX_REGIONS, BundleId, Result, State, Verdict
from service.contract.review import Decision, Review
from service.contract.texts import Note, Text
from service.contract.times import Timestamp, now, rfc3339
from service.contract.types import Message
from service.contract.waits import LONGEST_INFER_WAIT_S, LONGEST_WAIT_S

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
