/** The verdict of one inspection, the reason in a sentence, and the score against its limits. */
import { countingReview } from "../lib/counting_review.js";
import { html } from "../lib/html.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { formatScore, reasonText } from "./reason.js";
import { ScoreBar } from "./score_bar.js";
import { Verdict } from "./verdict.js";

/** @param {{inspection: any}} props */
export function InspectionVerdict({ inspection }) {
  const { state, limit_sample, score, thresholds, error, reviews } = inspection;
  const review = countingReview(reviews);
  const waits = state === "queued" || state === "running";
  return html`<section class="card inspection-verdict">
    <${Verdict} verdict=${inspection.verdict} size="large" />
    <p class="inspection-reason">${waits ? t(`inspection.waits.${state}`) : reasonText(inspection)}</p>
    ${error && html`<p class="hint">${t("inspection.error", { code: error.code })}</p>`}
    ${limit_sample && html`<p>${t(`inspection.sample.${limit_sample}`)}</p>`}
    ${review && html`<p>${t(`inspection.decided.${review.decision}`, { by: review.by, time: formatDate(review.at) })}</p>`}
    ${inspection.decision === "disputed" && html`<p>${t("inspection.disputed")}</p>`}
    <${ScoreBar} score=${score} thresholds=${thresholds} />
    <${Score} inspection=${inspection} />
    ${inspection.near_tie && html`<p class="hint">${t("inspection.near_tie")}</p>`}
    <${Quality} quality=${inspection.quality} />
  </section>`;
}

/** @param {{inspection: any}} props */
function Score({ inspection: { score, thresholds, calibrated_score } }) {
  if (score === null || !thresholds) return null;
  const review = thresholds.review > 0 ? thresholds.review : null; // on hold it lies below every score
  return html`<dl class="inspection-facts">
    <dt>${t("inspection.score")}</dt>
    <dd>${formatScore(score)} <span class="hint">${t("inspection.calibrated", { value: formatNumber(calibrated_score) })}</span></dd>
    ${review !== null && html`<dt>${t("inspection.review_from")}</dt><dd>${formatScore(review)}</dd>`}
    <dt>${t("inspection.fail_from")}</dt>
    <dd>${formatScore(thresholds.fail)}</dd>
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
          <span class="hint">${t(`quality.${one.check}_do`, {}, one.detail)}</span>
        </li>`,
    )}
  </ul>`;
}
