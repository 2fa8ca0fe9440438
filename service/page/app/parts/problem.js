/** What went wrong, in words. */
import { Problem } from "../lib/api.js";
import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** @param {unknown} error */
export function problemText(error) {
  if (error instanceof Problem) return error.status === 0 ? t("problem.no_answer") : error.message;
  return error instanceof Error ? error.message : String(error);
}

/** @param {{error: unknown, onRetry?: () => void}} props */
export function ProblemNote({ error, onRetry }) {
  return html`<div class="note note-problem" role="alert">
    <p>${problemText(error)}</p>
    ${onRetry && html`<button type="button" onClick=${onRetry}>${t("common.again")}</button>`}
  </div>`;
}
