/** How people and model agree, and people among each other, in plain words, by product. */
import { api, withQuery } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/html.js";
import { formatNumber, t } from "../lib/texts.js";
import { ProblemNote } from "./problem.js";
import { Verdict } from "./verdict.js";

const DAY_MS = 86_400_000;
const DAYS = [1, 7, 30, null];
/** Fewer pairs say little about how far people agree. */
const FEW_PAIRS = 20;
/** Kappa from which a word holds (Altman 1991). @type {[number, string][]} */
const KAPPA_WORDS = [
  [0.8, "review.kappa_very_good"],
  [0.6, "review.kappa_good"],
  [0.4, "review.kappa_moderate"],
  [0.2, "review.kappa_fair"],
  [Number.NEGATIVE_INFINITY, "review.kappa_poor"],
];

/** @typedef {{ok: number, defect: number}} Counts */
/** @typedef {{pairs: number, agreed: number, kappa: number | null}} DoubleRead */
/** @typedef {{reviewed: number, withdrawn: number, agreement: Record<"pass" | "review" | "fail", Counts>, double_read: DoubleRead}} Summary */

/** @param {{product?: string}} props without a product: one block for each */
export function ReviewNumbers({ product }) {
  const [days, setDays] = useState(/** @type {number | null} */ (7));
  const [found, setFound] = useState(/** @type {{product: string, summary: Summary}[] | null} */ (null));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const read = () => {
    setProblem(null);
    readSummaries(product, days).then(setFound, setProblem);
  };
  useEffect(read, [product, days]);
  return html`<section class="review-numbers">
    <div class="review-days" role="group" aria-label=${t("review.days")}>
      ${DAYS.map(
        (one) => html`<button key=${one} type="button" aria-pressed=${one === days} onClick=${() => setDays(one)}>
        ${one === null ? t("review.days_all") : t("review.days_last", { n: one })}
      </button>`,
      )}
    </div>
    ${Boolean(problem) && html`<${ProblemNote} error=${problem} onRetry=${read} />`}
    ${found?.map((one) => html`<${Product} key=${one.product} ...${one} />`)}
  </section>`;
}

/** @param {string | undefined} product @param {number | null} days */
async function readSummaries(product, days) {
  const since = days === null ? null : new Date(Date.now() - days * DAY_MS).toISOString();
  const all = product
    ? [product]
    : (await api.get("/v1/products")).products.map((/** @type {any} */ one) => one.product);
  return await Promise.all(
    all.map(async (/** @type {string} */ name) => {
      return { product: name, summary: await api.get("/v1/reviews/summary", { product: name, since }) };
    }),
  );
}

/** @param {{product: string, summary: Summary}} props */
function Product({ product, summary }) {
  const { agreement, double_read, reviewed, withdrawn } = summary;
  return html`<article class="review-product">
    <h2>${product}</h2>
    <p>${t("review.reviewed", { n: reviewed })} ${withdrawn > 0 && t("review.withdrawn", { n: withdrawn })}</p>
    ${reviewed > 0 && html`<${Agreement} agreement=${agreement} />`}
    <p><a href=${withQuery("/v1/reviews/export.zip", { product })} download>${t("review.export")}</a></p>
    <h3>${t("review.two_people")}</h3>
    ${doubleReadText(double_read).map((text) => html`<p key=${text}>${text}</p>`)}
  </article>`;
}

/** @param {{agreement: Summary["agreement"]}} props */
function Agreement({ agreement }) {
  const sums = Object.values(agreement);
  const decided = agreement.pass.ok + agreement.pass.defect + agreement.fail.ok + agreement.fail.defect;
  const same = agreement.pass.ok + agreement.fail.defect;
  return html`<table class="review-agreement">
      <caption>${t("review.agreement")}</caption>
      <thead><tr><th scope="col">${t("review.model_said")}</th><th scope="col">${t("review.people_ok")}</th>
        <th scope="col">${t("review.people_defect")}</th></tr></thead>
      <tbody>${["fail", "review", "pass"].map((name) => {
        const counts = agreement[/** @type {"fail"} */ (name)];
        return html`<tr key=${name}><th scope="row"><${Verdict} verdict=${name} /></th>
          <td>${formatNumber(counts.ok)}</td><td>${formatNumber(counts.defect)}</td></tr>`;
      })}</tbody>
      <tfoot><tr><th scope="row">${t("review.sum")}</th>
        <td>${formatNumber(sums.reduce((sum, one) => sum + one.ok, 0))}</td>
        <td>${formatNumber(sums.reduce((sum, one) => sum + one.defect, 0))}</td></tr></tfoot>
    </table>
    ${decided > 0 && html`<p>${t("review.agreement_text", { n: decided, same, share: percent(same / decided) })}</p>`}
    <p class="review-small">${t("review.agreement_bias")}</p>`;
}

/** Say how far two people agree. @param {DoubleRead} figures @returns {string[]} */
function doubleReadText({ pairs, agreed, kappa }) {
  if (pairs === 0) return [t("review.no_pairs")];
  const text = t("review.pairs", { n: pairs, agreed, share: percent(agreed / pairs) });
  if (kappa === null) return [text, t("review.kappa_none")];
  const word = KAPPA_WORDS.find(([least]) => kappa > least)?.[1] ?? "review.kappa_poor";
  const beyond = t("review.kappa", { kappa: formatNumber(kappa, { maximumFractionDigits: 2 }), word: t(word) });
  return pairs < FEW_PAIRS ? [text, beyond, t("review.few_pairs", { n: FEW_PAIRS })] : [text, beyond];
}

/** @param {number} share */
function percent(share) {
  return formatNumber(share, { style: "percent", maximumFractionDigits: 0 });
}
