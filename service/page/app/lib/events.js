/** The service's event stream, opened again where it broke. */
import { withQuery } from "./api.js";

const NAMES = [
  "inspection.done",
  "inspection.failed",
  "inspection.expired",
  "inspection.overtime",
  "inspection.reviewed",
  "inspection.review_withdrawn",
  "part.disposition",
  "station.held",
  "station.released",
  "limit_samples.passed",
  "limit_samples.failed",
  "reset",
];
/** So many times the pause between two heartbeats without any sign of life: the stream is broken. */
const SILENT_BEATS = 2.5;
const AGAIN_MS = 2_000;

/**
 * Follow the events from now on; each comes at least once and in order.
 * @param {{station?: string, product?: string, after?: string}} filters `after`: the id of the last event that was seen
 * @param {(type: string, data: any, id: string) => void} onEvent
 * @param {(isLive: boolean) => void} [onState] called at each change, and with every sign of life
 * @returns {() => void} ends it
 */
export function followEvents(filters, onEvent, onState = () => {}) {
  let last = filters.after ?? "";
  let everyMs = 15_000;
  /** @type {EventSource | null} */
  let source = null;
  let timer = 0;
  let ended = false;

  const isAlive = () => {
    clearTimeout(timer);
    timer = setTimeout(reopen, SILENT_BEATS * everyMs);
    onState(true);
  };
  const reopen = () => {
    source?.close();
    onState(false);
    clearTimeout(timer);
    if (!ended) timer = setTimeout(open, AGAIN_MS);
  };
  const open = () => {
    source = new EventSource(withQuery("/v1/events", { ...filters, after: last, heartbeats: true }));
    source.onopen = isAlive;
    source.onerror = reopen;
    source.addEventListener("heartbeat", (message) => {
      last = message.lastEventId || last;
      everyMs = 1000 * JSON.parse(message.data).every_s;
      isAlive();
    });
    for (const name of NAMES) {
      source.addEventListener(name, (message) => {
        last = message.lastEventId || last;
        isAlive();
        onEvent(name, JSON.parse(message.data), message.lastEventId);
      });
    }
  };
  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    source?.close();
  };
}
