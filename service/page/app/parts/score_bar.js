/** A score against its limits. The bar is the calibrated scale: the fail limit lies in its middle, whatever the product. */
import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";
import { formatScore } from "./reason.js";

/** @param {{score: number | null, thresholds: {review: number, fail: number} | null}} props */
export function ScoreBar({ score, thresholds }) {
  if (score === null || !thresholds) return null;
  const { review, fail } = thresholds;
  const place = (/** @type {number} */ value) => `${(100 * Math.max(value, 0)) / (Math.max(value, 0) + fail)}%`;
  const hasReview = review > 0 && review < fail; // on hold it lies below every score
  const values = { score: formatScore(score), review: formatScore(review), fail: formatScore(fail) };
  const label = t(hasReview ? "score.label" : "score.label_on_hold", values);
  return html`<div class="score" role="img" aria-label=${label}>
    <div class="score-track">
      <span class="score-zone zone-pass" style=${{ left: 0, right: "0" }}></span>
      ${review < fail && html`<span class="score-zone zone-review" style=${{ left: place(review), right: "50%" }}></span>`}
      <span class="score-zone zone-fail" style=${{ left: "50%", right: "0" }}></span>
      <span class="score-needle" style=${{ left: place(score) }}></span>
    </div>
    <div class="score-limits" aria-hidden="true">
      ${hasReview && html`<span class="score-limit limit-review" style=${{ right: `calc(100% - ${place(review)})` }}>${t("score.review", { limit: formatScore(review) })}</span>`}
      <span class="score-limit limit-fail" style=${{ left: "50%" }}>${t("score.fail", { limit: formatScore(fail) })}</span>
    </div>
  </div>`;
}
