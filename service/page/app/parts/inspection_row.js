/** An inspection as a line of a list: picture, verdict, whose image, when, and how far from the limit. */
import { countingReview } from "../lib/counting_review.js";
import { defectTitle } from "../lib/defect_titles.js";
import { html } from "../lib/html.js";
import { Link } from "../lib/router.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { Thumbnail } from "./thumbnail.js";
import { Verdict } from "./verdict.js";

/** @param {{inspection: any, titles: import("../lib/defect_titles.js").DefectTitles}} props */
export function InspectionRow({ inspection, titles }) {
  const review = countingReview(inspection.reviews);
  return html`<${Link} id=${`row-${inspection.id}`} class="inspection-row" href=${`/inspections/${inspection.id}`}>
    <${Thumbnail} id=${inspection.id} />
    <span class="row-verdict"><${Verdict} verdict=${inspection.verdict} /></span>
    <span class="row-serial">${inspection.serial ?? html`<span class="hint">${t("row.no_serial")}</span>`}</span>
    <span class="row-place">${placeText(inspection)}</span>
    <span class="row-time">${formatDate(inspection.finished_at ?? inspection.accepted_at)}</span>
    <span class="row-score">${scoreText(inspection)}</span>
    <span class="row-review">${review && reviewText(review, inspection.product, titles)}</span>
  <//>`;
}

/** @param {any} inspection */
function placeText({ station, product, view, limit_sample }) {
  const sample = limit_sample && t(`row.sample.${limit_sample}`);
  return [station, product, view, sample].filter(Boolean).join(" · ");
}

/** @param {any} inspection */
function scoreText({ score, thresholds, error, quality }) {
  if (score !== null && thresholds) {
    return t("row.score", { score: formatNumber(score), fail: formatNumber(thresholds.fail) });
  }
  if (error) return t("row.no_result");
  return quality && !quality.passed ? t("row.unfit") : "";
}

/**
 * @param {any} review
 * @param {string} product
 * @param {import("../lib/defect_titles.js").DefectTitles} titles
 */
export function reviewText({ decision, defect_code, by }, product, titles) {
  const title = defect_code && defectTitle(titles, defect_code, [product]);
  const found = decision === "ok" ? t("decision.ok") : [t("decision.defect"), title].filter(Boolean).join(": ");
  return t("row.review", { found, by });
}

/** Return the products of which a code has to be named. @param {any[]} inspections */
export function productsWithCodes(inspections) {
  const hasCode = (/** @type {any} */ one) => one.reviews.some((/** @type {any} */ review) => review.defect_code);
  return inspections.filter(hasCode).map((one) => one.product);
}
