/** What became of decisions: the last one with its undo, those that wait for the network, those that were refused. */
import { Problem } from "../lib/api.js";
import { decisions } from "../lib/decisions.js";
import { html } from "../lib/html.js";
import { Link } from "../lib/router.js";
import { t } from "../lib/texts.js";
import { problemText } from "./problem.js";

/** @typedef {import("../lib/reviewing.js").Made} Made */

/** @param {{last: import("../lib/reviewing.js").Last, earlier: readonly Made[], onUndo: (() => void) | null}} props */
export function LastDecision({ last, earlier, onUndo }) {
  return html`<div class="review-last">
    <div role="status" data-kind=${last.kind}>
      ${last.kind === "made" && last.made && html`<p><${Title} made=${last.made} /> ${agreementText(last.made)}</p>`}
      ${last.kind === "undone" && last.made && html`<p>${t("review.undone", { title: last.made.operation.title })}</p>`}
    </div>
    ${onUndo && html`<button type="button" onClick=${onUndo}>${t("review.undo")} <kbd>U</kbd></button>`}
    ${
      earlier.length > 0 &&
      html`<p class="review-earlier-made">${t("review.earlier")}
        ${earlier.map((one) => html`<span key=${one.operation.inspection}><${Title} made=${one} /></span>`)}</p>`
    }
  </div>`;
}

/**
 * What was decided on which part, and the way to all of it: to correct it, or to say what becomes of the part. Not of a
 * blind one, whose page would show the model's verdict.
 * @param {{made: Made}} props
 */
function Title({ made }) {
  const text = html`<strong>${made.operation.title}: ${decisionText(made)}</strong>`;
  if (made.task.blind || !made.answered) return text;
  return html`<${Link} href=${`/inspections/${made.operation.inspection}`}>${text}<//>`;
}

/** @param {Made} made */
function decisionText({ operation, code }) {
  if (operation.body?.decision === "ok") return t("review.was_ok");
  return code ? t("review.was_defect_code", { code }) : t("review.was_defect");
}

/** Say how it compares with the model; of a blind image not even now: an undo has to stay blind. @param {Made} made */
function agreementText({ task, operation, answered, verdict }) {
  if (!answered) return t("review.sending");
  if (task.blind) return t("review.stays_blind");
  if (verdict === "review") return t("review.model_unsure");
  if (verdict === null) return t("review.model_silent");
  const isSame = (verdict === "pass") === (operation.body?.decision === "ok");
  const said = t(`verdict.${verdict}`);
  return isSame ? t("review.model_agrees", { verdict: said }) : t("review.model_differs", { verdict: said });
}

/** @param {{sending: import("../lib/decisions.js").DecisionsView}} props */
export function Sending({ sending }) {
  const { waiting, refused, offline } = sending;
  return html`${
    offline &&
    waiting.length > 0 &&
    html`<p class="note review-waiting" role="status">
      ${t("review.waiting_to_send", { n: waiting.length })}</p>`
  }
    ${refused.map(
      (one) => html`<div class="note note-problem" role="alert" key=${one.operation.inspection}>
      <p>${t("review.refused", { title: one.operation.title, why: problemText(new Problem(409, { type: one.type, detail: one.why })) })}</p>
      <button type="button" onClick=${() => decisions.forget(one)}>${t("review.read")}</button>
    </div>`,
    )}`;
}
