/** How many the person decided today in this browser, and how many wait. */
import { api } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { usePolling } from "../lib/reading.js";
import { t } from "../lib/texts.js";

const READ_EVERY_MS = 20_000;
/** After a decision: several in a row cost one call. */
const READ_SOON_MS = 1_500;

/** @typedef {{fail: number, no_result?: number, review: number, audit: number, double_read: number, disputed?: number}} Waiting */

/** @param {{filter: {product?: string, station?: string}, today: number}} props */
export function Counter({ filter, today }) {
  const [waiting, setWaiting] = useState(/** @type {Waiting | null} */ (null));
  const soon = useRef(0);
  const read = () => {
    soon.current = 0;
    const keep = (/** @type {{waiting: Waiting}} */ summary) => setWaiting(summary.waiting);
    if (!document.hidden) api.get("/v1/reviews/summary", { product: filter.product }).then(keep, () => {});
  };
  usePolling(read, READ_EVERY_MS, [filter.product]);
  useEffect(() => {
    soon.current ||= setTimeout(read, READ_SOON_MS);
  }, [today]);
  useEffect(() => () => clearTimeout(soon.current), []);
  return html`<p class="review-counter">
    <span>${t("review.today", { n: today })}</span>
    ${waiting && !filter.station && html`<${WaitingText} waiting=${waiting} />`}
  </p>`;
}

/** @param {{waiting: Waiting}} props */
function WaitingText({ waiting }) {
  const { fail, no_result = 0, review, audit, double_read, disputed = 0 } = waiting;
  const kinds = { fail, no_result, review, audit, double_read, disputed };
  const all = Object.values(kinds).reduce((sum, one) => sum + one, 0);
  return html`<span>${t("review.waits", { n: all })}</span>
    <span class="review-counter-kinds">${t("review.waits_kinds", kinds)}</span>`;
}
