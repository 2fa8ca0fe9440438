"""What the OpenAPI document says of submitting, asking, fetching and replaying."""

from __future__ import annotations

from service.api.openapi.bodies import BINARY, IMAGE_TYPES
from service.api.openapi.examples import (
    DONE,
    FULL,
    ID,
    LATE,
    NO_INSPECTION,
    NO_PRODUCT,
    OLD_ID,
    PATH,
    QUEUE_AWAY,
    QUEUED,
    SLOW,
    STORAGE_AWAY,
    UNFIT,
    UNUSABLE,
)
from service.api.openapi.responses import APPLIED, LOCATION, RETRY_AFTER, Responses, inspection, problems
from service.errors import (
    BodyTooLarge,
    EmptyImage,
    InvalidFields,
    KeyReused,
    MalformedForm,
    NotReplayable,
    TooManyPixels,
    UndecodableImage,
    UnknownArtifact,
    UnknownFormat,
)

SUBMIT_RESPONSES: Responses = {
    200: inspection("Ended already, or within the time asked for", DONE, LOCATION | APPLIED, unfit=UNFIT),
    202: inspection("Accepted: it waits or runs", QUEUED, LOCATION | RETRY_AFTER | APPLIED),
    **problems(
        PATH,
        EmptyImage("the image has 0 bytes: send the file's content"),
        UndecodableImage("JPEG image of 20480 bytes does not decode (image file is truncated): send it again"),
        MalformedForm("the multipart body ends before its closing boundary: it was cut off; send it again"),
        NO_PRODUCT,
        UNUSABLE,
        KeyReused(f"Idempotency-Key 'line-3-000123-top' was used for inspection {ID} with another image"),
        BodyTooLarge("the body has 90000000 bytes; at most 67174400 bytes are allowed: send a smaller image"),
        UnknownFormat("the content begins with 25 50 44 46: send JPEG, PNG, BMP, TIFF or WebP"),
        InvalidFields("captured_at: Input should have timezone info"),
        TooManyPixels("image is 20000x20000 = 400000000 pixels; the limit is 64000000: crop or downscale it"),
        FULL,
        SLOW,
        LATE,
        QUEUE_AWAY,
        STORAGE_AWAY,
    ),
}
BATCH_RESPONSES: Responses = {
    202: {
        "description": "What became of each image",
        "content": {
            "application/json": {
                "example": {
                    "items": [
                        {"index": 0, "status": 202, "inspection": QUEUED, "problem": None},
                        {
                            "index": 1,
                            "status": 400,
                            "inspection": None,
                            "problem": EmptyImage("the image has 0 bytes: send the file's content")
                            .problem(f"{PATH}:batch")
                            .model_dump(),
                        },
                    ]
                }
            }
        },
    },
    **problems(
        f"{PATH}:batch",
        MalformedForm("the multipart body ends before its closing boundary: it was cut off; send it again"),
        NO_PRODUCT,
        UNUSABLE,
        BodyTooLarge("the body has 90000000 bytes; at most 67174400 bytes are allowed: send fewer images"),
        InvalidFields("items: has 2 entries for 3 images: give one for each, in order"),
    ),
}
INSPECTION_RESPONSES: Responses = {
    200: inspection("The inspection as it stands", DONE, {}, unfit=UNFIT),
    **problems(f"/v1/inspections/{ID}", NO_INSPECTION, QUEUE_AWAY),
}
REPLAY_RESPONSES: Responses = {
    200: inspection("Replayed before, and ended", DONE | {"replay_of": OLD_ID}, LOCATION),
    202: inspection("The new inspection: it waits or runs", QUEUED | {"replay_of": OLD_ID}, LOCATION | RETRY_AFTER),
    **problems(
        f"/v1/inspections/{OLD_ID}/replay",
        NO_INSPECTION,
        NotReplayable(f"inspection {OLD_ID} has a verdict: only failed and expired ones are replayed"),
        FULL,
        SLOW,
        QUEUE_AWAY,
        STORAGE_AWAY,
    ),
}
ARTIFACT_RESPONSES: Responses = {
    200: {
        "description": "The picture, or the map",
        "content": {kind: {"schema": BINARY} for kind in (*IMAGE_TYPES, "application/octet-stream")},
    },
    **problems(
        f"/v1/inspections/{ID}/heatmap.png",
        NO_INSPECTION,
        UnknownArtifact(f"inspection {ID} has no heatmap.png: its state is queued, and it has image"),
        QUEUE_AWAY,
        STORAGE_AWAY,
    ),
}
