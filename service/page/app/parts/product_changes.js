/** Who changed what of a product, and the way back. */
import { api } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { formatValue } from "../lib/limits.js";
import { useLoaded } from "../lib/reading.js";
import { hasScope } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { ProblemNote } from "./problem.js";
import { changeProduct, isOutdated, productPath, refusalText } from "./product_data.js";
import { limitText } from "./product_gate.js";

const SHOWN = 10;

/** @typedef {{revision: number | null, kind: string, version: string | null, before: Record<string, any>, after: Record<string, any>, by: string, at: string, note: string}} Change */

/** @param {{product: any, onChanged: () => void}} props */
export function Changes({ product, onChanged }) {
  const path = productPath(product.product);
  const found = useLoaded(`${product.product} ${product.revision}`, () => api.get(`${path}/changes`));
  const [isLong, setLong] = useState(false);
  const [refused, setRefused] = useState(/** @type {unknown} */ (null));
  /** @param {Change} change */
  const undo = async (change) => {
    const call = undoCall(path, change);
    if (!call) return;
    setRefused(null);
    try {
      const text = html`<p>${t("product.undo_text")}</p><p><strong>${changeText({ ...change, before: change.after, after: change.before })}</strong></p>`;
      const question = { title: t("product.undo_title"), text, action: t("product.undo") };
      if (await changeProduct({ question, ...call, revision: product.revision })) onChanged();
    } catch (error) {
      setRefused(error);
      if (isOutdated(error)) onChanged();
    }
  };
  const changes = /** @type {Change[]} */ (found.data?.changes ?? []);
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
          ${hasScope("admin") && undoCall(path, one) && html`<button type="button" onClick=${() => undo(one)}>${t("product.undo")}</button>`}
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
 * @returns {{method: "PUT" | "PATCH", path: string, body: Record<string, unknown>} | null}
 */
function undoCall(path, { kind, version, before }) {
  if (kind === "active" && before.version)
    return { method: "PUT", path: `${path}/active`, body: { version: before.version } };
  if (kind === "thresholds")
    return { method: "PATCH", path: `${path}/thresholds?last=0`, body: { version, ...before } };
  if (kind === "gate") return { method: "PUT", path: `${path}/gate`, body: { on: before.on } };
  if (kind === "gate_limits")
    return { method: "PATCH", path: `${path}/gate?last=0`, body: { version, limits: before } };
  return null;
}

/** @param {string} kind @param {string} name @param {number | null} value */
function valueText(kind, name, value) {
  if (value === null) return t(kind === "thresholds" ? "product.calibrated" : "product.learned");
  return kind === "thresholds" ? formatValue(value) : limitText(/** @type {any} */ (name), value);
}

/** @param {Change} change in words, such as "Version 7, FAIL from: calibrated → 1.9" */
function changeText({ kind, version, before, after }) {
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
