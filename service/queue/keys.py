"""Every Redis key. Each starts with the schema version, so that an upgrade can tell old data from new.

| key | type | what it holds |
|---|---|---|
| `glad:v1:jobs:{pool}:{priority}` | stream | one entry (`id`) per job that is queued or running: XLEN is the backlog |
| `glad:v1:inspection:{id}` | hash | the inspection: `job`, `state`, `result`, and the bookkeeping below |
| `glad:v1:idempotency:{digest}` | hash | `id` and `fingerprint` of the first submission with that key |
| `glad:v1:leases:{pool}` | sorted set | id -> when its lease ends, ms of Redis's clock; its size is what runs now |
| `glad:v1:held:{owner}` | set | ids that one worker process holds |
| `glad:v1:places:{pool}:{API key}` | set | ids of the queued and running jobs that came with one API key; expires |
| `glad:v1:returned:{pool}:{priority}` | sorted set | handed-back ids -> from when they may be claimed again, ms |
| `glad:v1:suspects:{pool}` | sorted set | ids whose worker died -> from when they may be claimed, alone, ms |
| `glad:v1:draining:{pool}` | string | the worker that takes no new jobs until it is empty, to try a suspect; expires |
| `glad:v1:workers:{pool}` | sorted set | worker process -> when it last claimed or renewed, ms |
| `glad:v1:lacking:{owner}` | set | hashes of the bundles that one worker's store does not have; expires |
| `glad:v1:unserved:{pool}:{bundle hash}` | string | since when no living worker's store has the bundle, ms; expires |
| `glad:v1:wake:{pool}` | stream | one entry; a new one wakes waiting claims when a job comes back |
| `glad:v1:pictures:{pool}` | sorted set | ids whose reconstruction is asked for -> since when, s |
| `glad:v1:picture:{id}` | string | `wanted`, or why the reconstruction cannot be drawn; expires |
| `glad:v1:turns:{pool}` | string | jobs given out, modulo normal's turn: see claim.lua |
| `glad:v1:pace:{pool}` | hash | how fast jobs are completed: `last_ms`, `busy_ms`, `completions`; see pace.lua |
| `glad:v1:served:{pool}` | sorted set | product -> when an image of it was last inspected, ms; the last hundred |
| `glad:v1:pools` | set | names of the pools that ever had a job |
| `glad:v1:dead:{pool}` | stream | jobs given up after repeated deaths: `id`, `job`, `reason` |
| `glad:v1:events` | stream | one entry per ended inspection and per review: `id`, `event` |
| `glad:v1:history` | sorted set | ids of all ended inspections -> position: the order in which they ended |
| `glad:v1:position` | string | the last position of the history that was given, also after it was emptied |
| `glad:v1:forgotten` | hash | results that were let go before their time, by reason: `number`, `memory` |
| `glad:v1:history:{field}:{value}` | sorted set | those of one `product`, `serial`, `lot`, `station` or `outcome` |
| `glad:v1:history:{field}:{value}` | sorted set | and of one `defect_code` or `disposition` |
| `glad:v1:history:reviewed:true` | sorted set | those with a review that counts; `history:reviews:any`: with any |
| `glad:v1:waiting:{kind}` | sorted set | ids that wait for a person: see reviewed.lua -> position in the history |
| `glad:v1:waiting:{kind}:product:{product}` | sorted set | and of one product; also `:station:{station}`, and both |
| `glad:v1:review_claim:{id}` | string | who has the image now: the claim, the kind, the person, one a line; expires |
| `glad:v1:review_claims:{person}` | set | ids that a person was given lately, and may still have; expires |
| `glad:v1:review_turns` | string | images given to people; each fourth turn begins with a blind one |
| `glad:v1:review_plan:{product}` | stream | the product's review plans: `revision`, `plan`; the last is in force |
| `glad:v1:disposition:{serial}` | list | what was decided about a part, the last one in force; expires |
| `glad:v1:stations` | set | names of the stations that are set |
| `glad:v1:station:{name}` | stream | the station's changes: `change`; the last is in force; expires once removed |
| `glad:v1:limit_samples:{station}` | hash | its `plan` and its last `check`, as JSON; expires once it is removed |
| `glad:v1:limit_serials:{station}` | hash | serial of a limit sample -> `good` or `bad` |
| `glad:v1:limit_checks:{station}` | list | the checks before the last one, as JSON; the latest first |
| `glad:v1:limit_ended` | sorted set | ids of images of limit samples that ended and are not judged yet -> when, ms |
| `glad:v1:takts` | sorted set | ids of unfinished inspections with a takt -> when it is over, ms |
| `glad:v1:unfinished:{serial}` | set | ids of a part's inspections that have not ended |
| `glad:v1:outbox:retries:{sink}` | hash | event id -> failed attempts to deliver it, and when to try again |
| `glad:v1:outbox:holder:{sink}` | string | the outbox process that delivers to the sink; expires |
| `glad:v1:outbox:writer:{sink}` | string | the outbox process that wrote last, where a sink has to know |
| `glad:v1:outbox:dead` | stream | events given up: `sink`, `id`, `event`, `reason`, `attempts` |
| `glad:v1:api_keys` | hash | id of an API key -> what is kept of it: name, scopes, SHA-256 of its secret |
| `glad:v1:session:{digest}` | string | a person's session by the SHA-256 of its token: name, key's id; expires |
| `glad:v1:rate:{what}:{who}` | hash | a token bucket: `tokens`, `at_ms`; expires once it is full |
| `glad:v1:sweeper` | string | the process that sweeps the artifacts, or did lately; expires |
| `glad:v1:born` | string | when artifacts were first swept with this Redis, ms |
| `glad:v1:artifacts` | string | what the marker of the folder of artifacts says, if they lie in a folder |
| `glad:v1:backup` | string | when the last whole backup ended, s |
| `glad:schema` | string | the schema version, which no version renames: see connection.py |

Bookkeeping in an inspection's hash: `priority`, `entry` (id in the job stream), `submitted_ms`, `started_ms` (first
claim), `claimed_ms` (latest), `owner`, `attempt` (the fencing token: grows with every claim), `alone`, `suspect`,
`deaths` (while alone), `idempotency` (key that shares its fate), `unfinished` and `places` (the sets that it is in),
`outcome` (the verdict, or the state of one without), `summary` (of an ended one, for statistics: see summary.lua),
`due_ms` (when the takt is over), `overtime` (it was, before the verdict), `reviews` (one JSON a line), `waiting` (the
kind of look that it waits for), `readers` (who has judged it), `double_read` (drawn for a second look), `settled`
(without a verdict, it needs no look any more), `defect_code` and `disposition` (the indexes that it is in); `bundle`
and `expires_ms` (of its job, once a worker has left it to others: see unusable.lua).

Scripts reach hashes by the ids they find, so the queue needs one Redis (with replicas if wished), not a Cluster.
"""

from __future__ import annotations

import hashlib

from service.contract import Priority

SCHEMA_VERSION = 1
SCHEMA = "glad:schema"
PREFIX = f"glad:v{SCHEMA_VERSION}:"
GROUP = "workers"
CONSUMER = "pool"
"""One consumer for all workers: the job's hash names its owner. Named consumers would pile up with every restart, and
deleting one would drop its pending jobs."""

EVENTS = f"{PREFIX}events"
INSPECTION_PREFIX = f"{PREFIX}inspection:"
DEAD_PREFIX = f"{PREFIX}dead:"
SWEEPER = f"{PREFIX}sweeper"
BORN = f"{PREFIX}born"
BACKUP = f"{PREFIX}backup"
HELD_PREFIX = f"{PREFIX}held:"
LACKING_PREFIX = f"{PREFIX}lacking:"
HISTORY = f"{PREFIX}history"
FORGOTTEN = f"{PREFIX}forgotten"
OUTBOX_DEAD = f"{PREFIX}outbox:dead"
OUTBOX_GROUP_PREFIX = "outbox:"
"""Prefix of the sinks' consumer groups on the event stream."""
STATIONS = f"{PREFIX}stations"
TAKTS = f"{PREFIX}takts"
LIMIT_ENDED = f"{PREFIX}limit_ended"
POOLS = f"{PREFIX}pools"
UNFINISHED_PREFIX = f"{PREFIX}unfinished:"
API_KEYS = f"{PREFIX}api_keys"
WAITING_PREFIX = f"{PREFIX}waiting:"
REVIEW_CLAIM_PREFIX = f"{PREFIX}review_claim:"
REVIEW_TURNS = f"{PREFIX}review_turns"
ARTIFACTS = f"{PREFIX}artifacts"


def inspection(inspection_id: str) -> str:
    """Return the key of the hash of one inspection."""
    return f"{INSPECTION_PREFIX}{inspection_id}"


def held(owner: str) -> str:
    """Return the key of the set of ids that a worker process holds."""
    return f"{HELD_PREFIX}{owner}"


def lacking(owner: str) -> str:
    """Return the key of the set of bundles that a worker process's store does not have."""
    return f"{LACKING_PREFIX}{owner}"


def history(field: str, value: str) -> str:
    """Return the key of the index of ended inspections whose `product`, `serial`, `lot`, `station` or `outcome` is
    this value.
    """
    return f"{HISTORY}:{field}:{value}"


def waiting_suffix(product: str | None, station: str | None) -> str:
    """Return the end of the keys of what waits for people, of a product, a station, both, or all."""
    return ("" if product is None else f":product:{product}") + ("" if station is None else f":station:{station}")


def review_claim(inspection_id: str) -> str:
    """Return the key of the claim of the person who has an image to review."""
    return f"{REVIEW_CLAIM_PREFIX}{inspection_id}"


def review_claims(person: str) -> str:
    """Return the key of the set of images that a person was given to review."""
    return f"{PREFIX}review_claims:{person}"


def review_plan(product: str) -> str:
    """Return the key of the stream of a product's review plans."""
    return f"{PREFIX}review_plan:{product}"


def disposition(serial: str) -> str:
    """Return the key of the list of what was decided about a part."""
    return f"{PREFIX}disposition:{serial}"


def station(name: str) -> str:
    """Return the key of the stream of a station's changes."""
    return f"{PREFIX}station:{name}"


def limit_samples(station_name: str) -> str:
    """Return the key of a station's limit samples and their last check."""
    return f"{PREFIX}limit_samples:{station_name}"


def limit_serials(station_name: str) -> str:
    """Return the key of the serials of a station's limit samples."""
    return f"{PREFIX}limit_serials:{station_name}"


def limit_checks(station_name: str) -> str:
    """Return the key of a station's earlier checks by limit samples."""
    return f"{PREFIX}limit_checks:{station_name}"


def picture(inspection_id: str) -> str:
    """Return the key of the request for the reconstruction of one inspection."""
    return f"{PREFIX}picture:{inspection_id}"


def unfinished(serial: str) -> str:
    """Return the key of the set of a part's inspections that have not ended."""
    return f"{UNFINISHED_PREFIX}{serial}"


def outbox_group(sink: str) -> str:
    """Return the name of an outbox sink's consumer group on the event stream."""
    return f"{OUTBOX_GROUP_PREFIX}{sink}"


def outbox_retries(sink: str) -> str:
    """Return the key of a sink's failed attempts."""
    return f"{PREFIX}outbox:retries:{sink}"


def outbox_holder(sink: str) -> str:
    """Return the key of the process that delivers to a sink."""
    return f"{PREFIX}outbox:holder:{sink}"


def outbox_writer(sink: str) -> str:
    """Return the key of the process that wrote last for a sink."""
    return f"{PREFIX}outbox:writer:{sink}"


def idempotency(client: str, scope: str, key: str) -> str:
    """Return the key of the record of an Idempotency-Key: hashed, because clients choose its length and letters."""
    digest = hashlib.sha256("\0".join((client, scope, key)).encode()).hexdigest()
    return f"{PREFIX}idempotency:{digest}"


def session(digest: str) -> str:
    """Return the key of the session whose token has this SHA-256."""
    return f"{PREFIX}session:{digest}"


def rate(what: str, who: str) -> str:
    """Return the key of the token bucket of one caller."""
    return f"{PREFIX}rate:{what}:{who}"


class PoolKeys:
    """The keys of one worker pool, as the table above names them. Computed once: a worker uses them for every claim."""

    def __init__(self, pool: str) -> None:
        self._jobs = {priority: f"{PREFIX}jobs:{pool}:{priority.value}" for priority in Priority}
        self._returned = {priority: f"{PREFIX}returned:{pool}:{priority.value}" for priority in Priority}
        self._places_prefix = f"{PREFIX}places:{pool}:"
        self.leases = f"{PREFIX}leases:{pool}"
        self.suspects = f"{PREFIX}suspects:{pool}"
        self.draining = f"{PREFIX}draining:{pool}"
        self.workers = f"{PREFIX}workers:{pool}"
        self.turns = f"{PREFIX}turns:{pool}"
        self.pace = f"{PREFIX}pace:{pool}"
        self.served = f"{PREFIX}served:{pool}"
        self.pictures = f"{PREFIX}pictures:{pool}"
        self.wake = f"{PREFIX}wake:{pool}"
        self.unserved_prefix = f"{PREFIX}unserved:{pool}:"
        self.dead = f"{DEAD_PREFIX}{pool}"

    def places(self, key_id: str) -> str:
        """Return the key of the set of the jobs that came with this API key."""
        return f"{self._places_prefix}{key_id}"

    def jobs(self, priority: Priority) -> str:
        """Return the key of the stream of queued and running jobs of this priority."""
        return self._jobs[priority]

    def returned(self, priority: Priority) -> str:
        """Return the key of the sorted set of jobs that were handed back."""
        return self._returned[priority]
