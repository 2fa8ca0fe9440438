/** The verdict of one inspection, the reason in a sentence, and the score against its limits. */
import { html } from "../lib/html.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { countingReview } from "./inspection_row.js";
import { Verdict } from "./verdict.js";

/** @param {{inspection: any}} props */
export function InspectionVerdict({ inspection }) {
  const review = countingReview(inspection.reviews);
  return html`<section class="card inspection-verdict">
    <${Verdict} verdict=${inspection.verdict} size="large" />
    <p class="inspection-reason">${reasonText(inspection)}</p>
    ${review && html`<p>${t(`inspection.decided.${review.decision}`, { by: review.by, time: formatDate(review.at) })}</p>`}
    <${Score} inspection=${inspection} />
    ${inspection.near_tie && html`<p class="hint">${t("inspection.near_tie")}</p>`}
    <${Quality} quality=${inspection.quality} />
    ${inspection.error && html`<p class="hint">${inspection.error.code}: ${inspection.error.detail}</p>`}
  </section>`;
}

/** @param {any} inspection */
function reasonText(inspection) {
  const { state, verdict, score, thresholds, quality, hold, overtime, limit_sample } = inspection;
  if (state === "queued" || state === "running") return t(`inspection.reason.${state}`);
  if (state === "failed" || state === "expired") return t(`inspection.reason.${state}`);
  const sample = limit_sample ? ` ${t(`inspection.reason.sample_${limit_sample}`)}` : "";
  if (quality && !quality.passed) return t("inspection.reason.unfit") + sample;
  if (overtime && verdict === "review" && score < thresholds.review) return t("inspection.reason.overtime") + sample;
  if (hold && verdict === "review") return t("inspection.reason.held", { reason: hold }) + sample;
  const limits = {
    score: formatNumber(score),
    review: formatNumber(thresholds.review),
    fail: formatNumber(thresholds.fail),
  };
  return t(`inspection.reason.${verdict}`, limits) + sample;
}

/** @param {{inspection: any}} props a bar from 0 to twice the fail limit, with both limits marked */
function Score({ inspection: { score, thresholds, calibrated_score, verdict } }) {
  if (score === null || !thresholds) return null;
  const end = Math.max(2 * thresholds.fail, 1.05 * score);
  const at = (/** @type {number} */ value) => `${(100 * Math.min(Math.max(value / end, 0), 1)).toFixed(2)}%`;
  const review = thresholds.review > 0 ? thresholds.review : null; // on hold it lies below every score
  return html`<div class="score" role="img" aria-label=${t("inspection.score_label", { score: formatNumber(score), fail: formatNumber(thresholds.fail) })}>
      <div class=${`score-bar score-${verdict}`} style=${{ width: at(score) }}></div>
      ${review !== null && html`<div class="score-limit" style=${{ left: at(review) }}></div>`}
      <div class="score-limit score-limit-fail" style=${{ left: at(thresholds.fail) }}></div>
    </div>
    <dl class="facts">
      <dt>${t("inspection.score")}</dt>
      <dd>${formatNumber(score)} <span class="hint">${t("inspection.calibrated", { value: formatNumber(calibrated_score) })}</span></dd>
      ${review !== null && html`<dt>${t("inspection.review_from")}</dt><dd>${formatNumber(review)}</dd>`}
      <dt>${t("inspection.fail_from")}</dt>
      <dd>${formatNumber(thresholds.fail)}</dd>
    </dl>`;
}

/** @param {{quality: any}} props */
function Quality({ quality }) {
  if (!quality) return null;
  if (quality.passed) return html`<p class="hint">${t("inspection.quality_passed")}</p>`;
  return html`<ul class="inspection-quality">
    ${quality.reasons.map(
      (/** @type {any} */ one) =>
        html`<li key=${one.measure}>
          <strong>${t(`quality.${one.check}`)}</strong>: ${t("inspection.quality_measured", { value: formatNumber(one.value), limit: formatNumber(one.limit) })}
          <span class="hint">${one.detail}</span>
        </li>`,
    )}
  </ul>`;
}
