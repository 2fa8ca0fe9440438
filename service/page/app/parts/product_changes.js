/** Who changed what of a product, and the way back. */
import { api } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { formatValue } from "../lib/limits.js";
import { useLoaded } from "../lib/reading.js";
import { hasScope } from "../lib/session.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { ProblemNote } from "./problem.js";
import { changeProduct, isOutdated, productPath, refusalText } from "./product_data.js";
import { FIGURES } from "./product_evaluations.js";
import { limitText } from "./product_gate.js";

const SHOWN = 10;

/** @typedef {{revision: number | null, kind: string, version: string | null, before: Record<string, any>, after: Record<string, any>, by: string, at: string, note: string, evaluation: import("./product_evaluations.js").Evaluation | null}} Change */

/** @param {{product: any, onChanged: () => void}} props */
export function Changes({ product, onChanged }) {
  const path = productPath(product.product);
  // Evaluations make no revision.
  const evaluated = product.versions.flatMap((/** @type {any} */ one) => one.evaluations ?? []);
  const shown = [product.product, product.revision, ...evaluated.map((/** @type {any} */ one) => one.id + one.at)];
  const found = useLoaded(shown.join(" "), () => api.get(`${path}/changes`));
  const changes = /** @type {Change[]} */ (found.data?.changes ?? []);
  const [isLong, setLong] = useState(false);
  const [refused, setRefused] = useState(/** @type {unknown} */ (null));
  /** @param {Change} change */
  const undo = async (change) => {
    const call = undoCall(path, change, changes);
    if (!call) return;
    setRefused(null);
    try {
      const meaning = t(change.kind === "evaluation" ? "product.undo_evaluation_text" : "product.undo_text");
      const text = html`<p>${meaning}</p><p><strong>${changeText({ ...change, before: change.after, after: change.before })}</strong></p>`;
      const question = { title: t("product.undo_title"), text, action: t("product.undo") };
      if (await changeProduct({ question, ...call, revision: product.revision })) onChanged();
    } catch (error) {
      setRefused(error);
      if (isOutdated(error)) onChanged();
    }
  };
  return html`<section class="card product-section" aria-labelledby="changes">
    <h2 id="changes">${t("product.changes")}</h2>
    ${found.error && html`<${ProblemNote} error=${found.error} onRetry=${found.reload} />`}
    ${refused && html`<p class="note note-problem" role="alert">${refusalText(refused)}</p>`}
    ${found.data && changes.length === 0 && html`<p class="hint">${t("product.changes_none")}</p>`}
    <ul class="changes">
      ${(isLong ? changes : changes.slice(0, SHOWN)).map(
        (one, place) => html`<li key=${`${one.at} ${place}`}>
          <div>
            <strong>${changeText(one)}</strong>
            <span class="hint change-by">${t("product.changed_by", { by: one.by, at: formatDate(one.at) })}${one.note && ` · ${one.note}`}</span>
          </div>
          ${hasScope("admin") && undoCall(path, one, changes) && html`<button type="button" onClick=${() => undo(one)}>${t("product.undo")}</button>`}
        </li>`,
      )}
    </ul>
    ${changes.length > SHOWN && !isLong && html`<button type="button" onClick=${() => setLong(true)}>${t("product.changes_all", { n: changes.length })}</button>`}
  </section>`;
}

/**
 * Return the call that puts back what was before a change; null where there is none.
 * @param {string} path
 * @param {Change} change
 * @param {Change[]} changes all of the product, the latest first
 * @returns {{method: "PUT" | "PATCH" | "POST" | "DELETE", path: string, body: Record<string, unknown> | null} | null}
 */
function undoCall(path, change, changes) {
  const { kind, version, before } = change;
  if (kind === "evaluation")
    return undoEvaluation(`${path}/versions/${encodeURIComponent(String(version))}/evaluations`, change, changes);
  if (kind === "active" && before.version)
    return { method: "PUT", path: `${path}/active`, body: { version: before.version } };
  if (kind === "thresholds")
    return { method: "PATCH", path: `${path}/thresholds?last=0`, body: { version, ...before } };
  if (kind === "gate") return { method: "PUT", path: `${path}/gate`, body: { on: before.on } };
  if (kind === "gate_limits")
    return { method: "PATCH", path: `${path}/gate?last=0`, body: { version, limits: before } };
  return null;
}

/**
 * Return the call that undoes what was last done to an evaluation: one that was measured again stays.
 * @param {string} path of the version's evaluations
 * @param {Change} change
 * @param {Change[]} changes
 * @returns {{method: "POST" | "DELETE", path: string, body: Record<string, unknown> | null} | null}
 */
function undoEvaluation(path, change, changes) {
  const name = evaluationOf(change);
  if (changes.find((one) => one.kind === "evaluation" && evaluationOf(one) === name) !== change) return null;
  if (change.evaluation) {
    const { bundle, data, figures, yardstick, minus_yardstick, measured, note } = change.evaluation;
    const body = { bundle, data, figures, yardstick, minus_yardstick, measured, note: note || null };
    return { method: "POST", path, body };
  }
  return change.before.evaluation ? null : { method: "DELETE", path: `${path}/${name}`, body: null };
}

/** @param {Change} change */
function evaluationOf({ before, after }) {
  return after.evaluation ?? before.evaluation;
}

/** @param {Change} change of an evaluation, in words, such as "Version 7: figures on “plant” recorded, … 97 %" */
function evaluationText({ version, before, after }) {
  const [old, now] = [before, after].map((one) => one.evaluation !== null);
  const text = old && now ? "product.change_measured" : now ? "product.change_recorded" : "product.change_removed";
  const what = Object.entries(FIGURES)
    .map(([key, name]) => ({ key, values: [before[name], after[name]].filter((one) => typeof one === "number") }))
    .filter(({ values }) => values.length)
    .map(({ key, values }) => `${t(`product.figure_${key}`)} ${values.map(percentText).join(" → ")}`);
  return t(text, { version: String(version), data: after.data ?? before.data, what: what.join(", ") });
}

/** @param {number} value */
function percentText(value) {
  return formatNumber(value, { style: "percent", maximumFractionDigits: 1 });
}

/** @param {string} kind @param {string} name @param {number | null} value */
function valueText(kind, name, value) {
  if (value === null) return t(kind === "thresholds" ? "product.calibrated" : "product.learned");
  return kind === "thresholds" ? formatValue(value) : limitText(/** @type {any} */ (name), value);
}

/** @param {Change} change in words, such as "Version 7, FAIL from: calibrated → 1.9" */
function changeText(change) {
  const { kind, version, before, after } = change;
  if (kind === "evaluation") return evaluationText(change);
  if (kind === "active") return t("product.change_active", { version: String(after.version ?? "–") });
  if (kind === "gate") return t(after.on ? "product.gate_is_on" : "product.gate_is_off");
  if (kind === "pictures") return t("product.change_pictures");
  const moved = Object.keys(after)
    .filter((one) => before[one] !== after[one])
    .map((one) => {
      const name = t(kind === "thresholds" ? `product.${one}` : `product.limit_${one}`);
      const values = [before[one], after[one]].map((value) => valueText(kind, one, value));
      return `${name} ${values[0]} → ${values[1]}`;
    });
  return t("product.change_values", { version: String(version), what: moved.join(", ") || "–" });
}
