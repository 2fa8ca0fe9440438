/** What went wrong, in words. */
import { Problem } from "../lib/api.js";
import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** Refusals that a person at the page may meet: said in the reader's language, above the service's own words. */
const KNOWN = new Set([
  "claim-lost",
  "forbidden",
  "invalid-fields",
  "limit-check-conflict",
  "not-replayable",
  "not-reviewable",
  "nothing-to-withdraw",
  "queue-unavailable",
  "rate-exceeded",
  "storage-unavailable",
  "too-many-exports",
  "unauthorized",
  "unknown-inspection",
  "unknown-part",
  "unknown-product",
  "version-unusable",
]);

/** @param {unknown} error */
export function problemText(error) {
  if (!(error instanceof Problem)) return error instanceof Error ? error.message : String(error);
  if (error.status === 0) return t("problem.no_answer");
  const kind = error.type.split(":").at(-1) ?? "";
  return KNOWN.has(kind) ? t(`problem.${kind}`) : error.message;
}

/** @param {{error: unknown, onRetry?: () => void}} props */
export function ProblemNote({ error, onRetry }) {
  const text = problemText(error);
  const detail = error instanceof Problem && error.detail !== text ? error.detail : "";
  return html`<div class="note note-problem" role="alert">
    <p>${text}</p>
    ${detail && html`<p class="hint" lang="en">${detail}</p>`}
    ${onRetry && html`<button type="button" onClick=${onRetry}>${t("common.again")}</button>`}
  </div>`;
}
