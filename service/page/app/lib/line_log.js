/** The last parts of a line, newest first: pure functions of events and of the history. */
import { countingReview } from "./counting_review.js";

/** So many parts are remembered. */
export const MOST_ENTRIES = 50;

/**
 * @typedef {{decision: "ok" | "defect", by: string, at: string, blind?: boolean, withdrawn_at?: string | null}} Review
 */

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
 * @property {Review[]} reviews all that are known, oldest first, also those that were withdrawn
 * @property {Review | null} review the one that counts
 * @property {string} product
 * @property {string | null} serial
 * @property {string | null} lot
 * @property {string | null} view
 * @property {string | null} station
 * @property {string | null} accepted_at
 * @property {string} at when it ended
 */

const ENDS = new Set(["inspection.done", "inspection.failed", "inspection.expired", "inspection.overtime"]);
const REVIEWS = new Set(["inspection.reviewed", "inspection.review_withdrawn"]);

/**
 * Return the entries after an event; those of other types than inspections change nothing.
 * @param {Entry[]} entries
 * @param {string} type
 * @param {any} event
 * @returns {Entry[]}
 */
export function withEvent(entries, type, event) {
  const at = entries.findIndex((one) => one.id === event.inspection_id);
  if (REVIEWS.has(type)) {
    return at < 0 || !event.review ? entries : entries.with(at, withReviews(entries[at], [event.review]));
  }
  if (!ENDS.has(type)) return entries;
  const entry = entryOf({ ...event, id: event.inspection_id }, type === "inspection.overtime");
  if (at < 0) return [entry, ...entries].slice(0, MOST_ENTRIES);
  const known = entries[at];
  if (entry.is_waiting && !known.is_waiting) return entries; // the verdict has come meanwhile
  return entries.with(at, withReviews({ ...entry, overtime: entry.overtime || known.overtime }, known.reviews));
}

/**
 * Return the entry with these reviews too, in the order in which they are told. A withdrawal stays one: of the same
 * review told twice, an event may be older than the history, and the history older than an event.
 * @param {Entry} entry
 * @param {Review[]} told
 * @returns {Entry}
 */
function withReviews(entry, told) {
  const reviews = [...entry.reviews];
  for (const review of told) {
    const at = reviews.findIndex((one) => one.by === review.by && one.at === review.at);
    if (at < 0) reviews.push(review);
    else if (!reviews[at].withdrawn_at) reviews[at] = review;
  }
  return { ...entry, reviews, review: countingReview(reviews) };
}

/**
 * Return the entries with what the history knows beyond them: parts that they lack, verdicts and reviews whose events
 * were missed. They are in the order in which they ended.
 * @param {Entry[]} entries
 * @param {any[]} inspections as `GET /v1/inspections` gives them
 * @returns {Entry[]}
 */
export function withHistory(entries, inspections) {
  const all = new Map(entries.map((one) => [one.id, one]));
  for (const found of inspections.map((one) => entryOf(one, false))) {
    all.set(found.id, withReviews(found, all.get(found.id)?.reviews ?? []));
  }
  return [...all.values()].sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, MOST_ENTRIES);
}

/**
 * @param {any} found an event or an inspection
 * @param {boolean} isWaiting
 * @returns {Entry}
 */
export function entryOf(found, isWaiting) {
  const reviews = found.reviews ?? [];
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
    reviews,
    review: countingReview(reviews),
    product: found.product,
    serial: found.serial ?? null,
    lot: found.lot ?? null,
    view: found.view ?? null,
    station: found.station ?? null,
    accepted_at: found.accepted_at ?? null,
    at: found.at ?? found.finished_at,
  };
}
