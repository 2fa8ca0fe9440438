/** What people decided on an image, and the way to decide again: a mistake of yesterday is corrected here. */
import { api } from "../lib/api.js";
import { countingReview } from "../lib/counting_review.js";
import { useDefectTitles } from "../lib/defect_titles.js";
import { html, useEffect, useState } from "../lib/html.js";
import { askPerson, hasScope, useSession } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { confirmChange } from "./dialog.js";
import { productsWithCodes, reviewText } from "./inspection_row.js";
import { ProblemNote } from "./problem.js";

/** @typedef {{code: string, title: string}} DefectKind */

/** Without a verdict a person may decide as well. */
const ENDED = new Set(["done", "failed", "expired"]);

/** @param {{inspection: any, onChange: (inspection: any) => void}} props */
export function InspectionReviews({ inspection, onChange }) {
  const { reviews } = inspection;
  const counting = countingReview(reviews);
  const titles = useDefectTitles(productsWithCodes([inspection]));
  return html`<section class="card">
    <h2>${t("inspection.reviews")}</h2>
    ${reviews.length === 0 && html`<p class="hint">${t("inspection.no_reviews")}</p>`}
    <ol class="inspection-reviews">
      ${reviews.map(
        (/** @type {any} */ one, /** @type {number} */ place) =>
          html`<li key=${place} class=${one === counting ? "counts" : ""}>
            <p><strong>${reviewText(one, inspection.product, titles)}</strong> · ${formatDate(one.at)}${one.key && html` · ${t("inspection.review_key", { key: one.key })}`}</p>
            ${one.note && html`<p>${one.note}</p>`}
            ${one.blind && html`<p class="hint">${t("inspection.review_blind")}</p>`}
            ${one === counting && html`<p class="hint">${t("inspection.review_counts")}</p>`}
            ${one.withdrawn_at && html`<p class="hint">${t("inspection.review_withdrawn", { by: one.withdrawn_by ?? "–", time: formatDate(one.withdrawn_at) })}</p>`}
          </li>`,
      )}
    </ol>
    ${
      ENDED.has(inspection.state) &&
      (hasScope("review")
        ? html`<${Decide} inspection=${inspection} counting=${counting} onChange=${onChange} />`
        : html`<p class="hint">${t("inspection.decide_needs_review")}</p>`)
    }
  </section>`;
}

/** @param {{inspection: any, counting: any, onChange: (inspection: any) => void}} props */
function Decide({ inspection, counting, onChange }) {
  const person = useSession()?.person ?? null;
  const reviews = /** @type {any[]} */ (inspection.reviews);
  const kinds = useKinds(inspection.product);
  const [code, setCode] = useState("");
  const [note, setNote] = useState("");
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const path = `/v1/inspections/${inspection.id}/review`;
  /** @param {string} action @param {() => Promise<any>} change */
  const make = async (action, change) => {
    const question = { title: action, text: t("inspection.decide_text"), action };
    if (!(await confirmChange(question)) || (await askPerson()) === null) return;
    try {
      setFailure(null);
      onChange(await change());
      setNote("");
    } catch (problem) {
      setFailure(problem);
    }
  };
  /** @param {"ok" | "defect"} decision @param {string} action */
  const decide = (decision, action) =>
    make(action, async () => {
      const found = decision === "defect" ? { defect_code: code || null, regions: counting?.regions ?? null } : {};
      return await api.send("POST", path, { decision, ...found, note: note.trim() || null, by: await askPerson() });
    });
  const isOwn = reviews.some((one) => !one.withdrawn_at && one.by === person);
  const mayWithdraw = counting && (counting.by === person || (hasScope("admin") && !isOwn));
  const withdrawal = isOwn ? t("inspection.withdraw") : t("inspection.withdraw_of", { by: counting?.by ?? "–" });
  const withdraw = () => make(withdrawal, () => api.send("DELETE", path));
  const title = kinds.find((kind) => kind.code === code)?.title;
  const defect = [t("decision.defect"), title].filter(Boolean).join(": ");
  return html`<h3>${t(counting ? "inspection.correct" : "inspection.decide")}</h3>
    <div class="inspection-decide">
      <button type="button" onClick=${() => decide("ok", t("decision.ok"))}>${t("decision.ok")}</button>
      <span class="inspection-defect">
        ${
          kinds.length > 0 &&
          html`<select aria-label=${t("review.which")} value=${code} onChange=${(/** @type {any} */ event) => setCode(event.currentTarget.value)}>
            <option value="">${t("review.no_code")}</option>
            ${kinds.map((kind) => html`<option key=${kind.code} value=${kind.code}>${kind.title}</option>`)}
          </select>`
        }
        <button type="button" onClick=${() => decide("defect", defect)}>${t("decision.defect")}</button>
      </span>
      ${mayWithdraw && html`<button type="button" onClick=${withdraw}>${withdrawal}</button>`}
      <label class="field inspection-note">${t("review.note")}
        <input maxlength="1000" autocomplete="off" value=${note} onInput=${(/** @type {any} */ event) => setNote(event.currentTarget.value)} />
      </label>
    </div>
    ${failure && html`<${ProblemNote} error=${failure} />`}`;
}

/** @param {string} product @returns {DefectKind[]} the product's kinds of defects, empty until they are known */
function useKinds(product) {
  const [kinds, setKinds] = useState(/** @type {DefectKind[]} */ ([]));
  useEffect(() => {
    api.get(`/v1/products/${product}/review-plan`).then(
      (plan) => setKinds(plan.defect_codes),
      () => {}, // a product that is gone has no list: a defect without a code may be recorded
    );
  }, [product]);
  return kinds;
}
