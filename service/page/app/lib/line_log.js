/** The last parts of a line, newest first: pure functions of events and of the history. */
import { countingReview, isSecondLook } from "./counting_review.js";

/** So many parts are remembered. */
export const MOST_ENTRIES = 50;

/**
 * What is known of one part's image without a further call.
 * @typedef {object} Entry
 * @property {string} id of the inspection
 * @property {"pass" | "review" | "fail" | null} verdict null: it ended without one, which is never pass
 * @property {number | null} score
 * @property {number | null} calibrated_score
 * @property {{review: number, fail: number, pixel: number} | null} thresholds
 * @property {number | null} denoising_step
 * @property {string | null} hold why the station was on hold
 * @property {any} hold_sample the limit sample that put it on hold
 * @property {boolean} overtime its takt was over before the verdict came
 * @property {boolean} is_waiting its takt is over, and the verdict is still to come
 * @property {string | null} limit_sample
 * @property {any} quality
 * @property {{code: string, detail: string} | null} error
 * @property {{decision: "ok" | "defect", by: string} | null} review
 * @property {string} product
 * @property {string | null} serial
 * @property {string | null} lot
 * @property {string | null} view
 * @property {string | null} station
 * @property {string | null} accepted_at
 * @property {string} at when it ended
 */

const ENDS = new Set(["inspection.done", "inspection.failed", "inspection.expired", "inspection.overtime"]);

/**
 * Return the entries after an event; those of other types than inspections change nothing.
 * @param {Entry[]} entries
 * @param {string} type
 * @param {any} event
 * @returns {Entry[]}
 */
export function withEvent(entries, type, event) {
  const at = entries.findIndex((one) => one.id === event.inspection_id);
  if (type === "inspection.reviewed") {
    return at < 0 ? entries : entries.with(at, { ...entries[at], review: reviewAfter(event, entries[at].review) });
  }
  if (!ENDS.has(type)) return entries;
  const entry = entryOf({ ...event, id: event.inspection_id }, type === "inspection.overtime");
  if (at < 0) return [entry, ...entries].slice(0, MOST_ENTRIES);
  const known = entries[at];
  if (entry.is_waiting && !known.is_waiting) return entries; // the verdict has come meanwhile
  return entries.with(at, { ...entry, overtime: entry.overtime || known.overtime, review: known.review });
}

/**
 * Return the review that counts after an event; null if people disagree.
 * @param {any} event
 * @param {Entry["review"]} before
 * @returns {Entry["review"]}
 */
function reviewAfter({ review, decision }, before) {
  if (!review || decision === "disputed") return null;
  return isSecondLook(review, before) ? before : review;
}

/**
 * Return the entries with those of the history that they lack, in the order in which they ended.
 * @param {Entry[]} entries
 * @param {any[]} inspections as `GET /v1/inspections` gives them
 * @returns {Entry[]}
 */
export function withHistory(entries, inspections) {
  const known = new Set(entries.map((one) => one.id));
  const others = inspections.filter((one) => !known.has(one.id)).map((one) => entryOf(one, false));
  return [...entries, ...others].sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, MOST_ENTRIES);
}

/**
 * @param {any} found an event or an inspection
 * @param {boolean} isWaiting
 * @returns {Entry}
 */
export function entryOf(found, isWaiting) {
  return {
    id: found.id,
    verdict: found.verdict ?? null,
    score: found.score ?? null,
    calibrated_score: found.calibrated_score ?? null,
    thresholds: found.thresholds ?? null,
    denoising_step: found.denoising_step ?? null,
    hold: found.hold ?? null,
    hold_sample: found.hold_sample ?? null,
    overtime: Boolean(found.overtime),
    is_waiting: isWaiting,
    limit_sample: found.limit_sample ?? null,
    quality: found.quality?.passed === false ? found.quality : null,
    error: found.error ?? null,
    review: found.review ?? countingReview(found.reviews ?? []),
    product: found.product,
    serial: found.serial ?? null,
    lot: found.lot ?? null,
    view: found.view ?? null,
    station: found.station ?? null,
    accepted_at: found.accepted_at ?? null,
    at: found.at ?? found.finished_at,
  };
}
