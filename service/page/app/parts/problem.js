/** What went wrong, in words. */
import { Problem } from "../lib/api.js";
import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** @param {unknown} error */
export function problemText(error) {
  if (error instanceof Problem) {
    const slug = error.type.split(":").at(-1) ?? "";
    return error.status === 0 ? t("problem.no_answer") : t(`problem.${slug.replaceAll("-", "_")}`, {}, error.message);
  }
  return error instanceof Error ? error.message : String(error);
}

/** @param {{error: unknown, onRetry?: () => void}} props */
export function ProblemNote({ error, onRetry }) {
  const detail = error instanceof Problem ? error.detail : "";
  return html`<div class="note note-problem" role="alert">
    <p>${problemText(error)}</p>
    ${detail && detail !== problemText(error) && html`<p class="hint" lang="en">${detail}</p>`}
    ${onRetry && html`<button type="button" onClick=${onRetry}>${t("common.again")}</button>`}
  </div>`;
}
