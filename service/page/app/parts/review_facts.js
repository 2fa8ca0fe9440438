/** What is known of the image to decide; of a blind one nothing that the model found. */
import { html } from "../lib/html.js";
import { titleOf } from "../lib/reviewing.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { reviewText } from "./inspection_row.js";
import { reasonText as lineReason } from "./reason.js";
import { Verdict } from "./verdict.js";

/** @typedef {import("../lib/claims.js").Inspection} Inspection */

/** @param {{task: import("../lib/claims.js").Task}} props */
export function Facts({ task }) {
  const { inspection, blind } = task;
  return html`<div class="review-facts" tabindex="0" role="group" aria-label=${titleOf(inspection)}>
    <h2>${titleOf(inspection)}</h2>
    ${blind ? html`<p class="review-blind">${t("review.blind")}</p>` : html`<${ModelFound} inspection=${inspection} />`}
    <dl>
      <${Fact} name=${t("review.product")} value=${inspection.product} />
      <${Fact} name=${t("review.station")} value=${inspection.station} />
      <${Fact} name=${t("review.lot")} value=${inspection.lot} />
      <${Fact} name=${t("review.view")} value=${inspection.view} />
      <${Fact} name=${t("review.time")} value=${formatDate(inspection.accepted_at)} />
    </dl>
  </div>`;
}

/** @param {{name: string, value: string | null | undefined}} props */
function Fact({ name, value }) {
  return value && html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
}

/** @param {{inspection: Inspection}} props */
function ModelFound({ inspection }) {
  return html`<div class="review-model">
    <${Verdict} verdict=${inspection.verdict} size="large" />
    <p>${reasonText(inspection)}</p>
    ${inspection.decision === "disputed" && html`<${Disputed} reviews=${inspection.reviews} />`}
    <${Score} inspection=${inspection} />
  </div>`;
}

/** Who decided what: the two see it differently. @param {{reviews: import("../lib/claims.js").Review[]}} props */
function Disputed({ reviews }) {
  const standing = reviews.filter((one) => !one.withdrawn_at);
  return html`<p>${t("review.disputed")}</p>
    <ul>${standing.map((one, place) => html`<li key=${place}>${reviewText(one)}</li>`)}</ul>`;
}

/** Say why it is not a pass. @param {Inspection} inspection */
function reasonText(inspection) {
  if (inspection.verdict === null || inspection.quality?.passed === false) return lineReason(inspection);
  const regions = t("review.regions", { n: inspection.regions.length });
  if (inspection.hold) return t("review.reason_hold", { why: inspection.hold });
  if (inspection.overtime) return t("review.reason_overtime");
  return inspection.regions.length > 0 ? regions : t("review.reason_score");
}

/** The score on a scale that ends at one; the limits are marked. @param {{inspection: Inspection}} props */
function Score({ inspection }) {
  const { score, thresholds } = inspection;
  if (score === null || !thresholds) return null;
  const place = (/** @type {number} */ value) => (100 * value) / (value + thresholds.fail);
  const [at, review, fail] = [score, thresholds.review, thresholds.fail].map(place);
  return html`<div class="review-score">
    <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
      <rect class="review-score-pass" x="0" y="3" width=${review} height="4" />
      <rect class="review-score-review" x=${review} y="3" width=${fail - review} height="4" />
      <rect class="review-score-fail" x=${fail} y="3" width=${100 - fail} height="4" />
      <rect class="review-score-at" x=${Math.min(at, 99)} y="0" width="1" height="10" />
    </svg>
    <p>${t("review.score", {
      score: formatNumber(score),
      review: formatNumber(thresholds.review),
      fail: formatNumber(thresholds.fail),
    })}</p>
  </div>`;
}
