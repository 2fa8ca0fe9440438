/** How much was decided today, and how much waits. */
import { api } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { t } from "../lib/texts.js";

const READ_EVERY_MS = 20_000;
/** After a decision: several in a row cost one call. */
const READ_SOON_MS = 1_500;

/** @typedef {{fail: number, review: number, audit: number, double_read: number}} Waiting */

/** @param {{filter: {product?: string}, last: import("../lib/reviewing.js").Last}} props */
export function Counter({ filter, last }) {
  const [found, setFound] = useState(/** @type {{reviewed: number, waiting: Waiting} | null} */ (null));
  const soon = useRef(0);
  const read = () => {
    soon.current = 0;
    const query = { product: filter.product, since: startOfToday() };
    if (!document.hidden) api.get("/v1/reviews/summary", query).then(setFound, () => {});
  };
  useEffect(() => {
    read();
    const timer = setInterval(read, READ_EVERY_MS);
    return () => {
      clearInterval(timer);
      clearTimeout(soon.current);
    };
  }, [filter.product]);
  useEffect(() => {
    if (last.kind !== "none") soon.current ||= setTimeout(read, READ_SOON_MS);
  }, [last.made]);
  if (!found) return null;
  const { fail, review, audit, double_read } = found.waiting;
  return html`<p class="review-counter">
    <span>${t("review.today", { n: found.reviewed })}</span>
    <span>${t("review.waits", { n: fail + review + audit + double_read })}</span>
    <span class="review-counter-kinds">${t("review.waits_kinds", { fail, review, audit, double_read })}</span>
  </p>`;
}

function startOfToday() {
  const today = new Date();
  today.setHours(0, 0, 0, 0);
  return today.toISOString();
}
