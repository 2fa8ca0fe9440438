/** The versions of a product with what was measured of them; which one inspects, and changing that. */
import { html, useState } from "../lib/html.js";
import { formatValue } from "../lib/limits.js";
import { Link } from "../lib/router.js";
import { hasScope } from "../lib/session.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { changeProduct, productPath, refusalText } from "./product_data.js";

/** @typedef {{value: number, low: number, high: number}} Estimate with its 95 % interval */

/** Figures of an evaluation, by the way to them in a bundle's `quality` and in its yardstick's. */
const FIGURES = /** @type {Record<string, string[][]>} */ ({
  ranking: [["image", "auroc"]],
  place: [["pixel", "pro"]],
  found: [["found_at_its_threshold", "found"]],
  rejected: [["found_at_its_threshold", "false_rejects"], ["false_reject_rate"]],
});

/** @param {{product: any, shown: any, onChanged: () => void}} props */
export function Versions({ product, shown, onChanged }) {
  const path = productPath(product.product, "/active");
  const [refused, setRefused] = useState(/** @type {unknown} */ (null));
  const active = product.active.version;
  /** @param {Record<string, unknown>} body @param {string} title @param {string} text */
  const change = async (body, title, text) => {
    setRefused(null);
    try {
      const question = { title, text, action: title };
      if (await changeProduct({ question, method: "PUT", path, body, revision: product.revision })) onChanged();
    } catch (error) {
      setRefused(error);
      if (refusalText(error)) onChanged();
    }
  };
  return html`<section class="product-section" aria-labelledby="versions">
    <h2 id="versions">${t("product.versions")}</h2>
    ${refused && html`<p class="note note-problem" role="alert">${refusalText(refused) ?? /** @type {Error} */ (refused).message}</p>`}
    <ul class="versions">
      ${product.versions.map(
        (/** @type {any} */ one) => html`<li class="card" key=${one.version} data-active=${one.version === active}>
          <div class="version-head">
            <h3>${t("product.version", { version: one.version })}</h3>
            ${one.version === active && html`<span class="badge">${t("product.inspects_now")}</span>`}
            <span class="hint">${t("product.made", { at: formatDate(one.created_at) })}</span>
          </div>
          <${Quality} quality=${one.quality} />
          <p class="hint">
            ${t("product.limits_of", { review: formatValue(one.thresholds.review), fail: formatValue(one.thresholds.fail) })}${" "}
            ${isOverridden(one) && t("product.limits_changed")}
          </p>
          <div class="actions version-actions">
            ${one.report && html`<a class="button" href=${one.report} target="_blank" rel="noopener">${t("product.report")}</a>`}
            ${one.version !== shown.version && html`<${Link} class="button" href=${`/products/${encodeURIComponent(product.product)}?version=${encodeURIComponent(one.version)}`}>${t("product.show_limits")}<//>`}
            ${
              hasScope("admin") &&
              one.version !== active &&
              html`<button type="button" class="primary" onClick=${() => change({ version: one.version }, t("product.activate", { version: one.version }), t("product.activate_text", { version: one.version, active }))}>
                ${t("product.activate", { version: one.version })}
              </button>`
            }
            ${
              hasScope("admin") &&
              one.version === active &&
              product.versions.length > 1 &&
              html`<button type="button" onClick=${() => change({ roll_back: true }, t("product.roll_back"), t("product.roll_back_text", { active }))}>${t("product.roll_back")}</button>`
            }
          </div>
        </li>`,
      )}
    </ul>
  </section>`;
}

/** @param {any} version */
export function isOverridden(version) {
  const { thresholds, calibrated } = version;
  return calibrated && ["review", "fail", "pixel"].some((one) => thresholds[one] !== calibrated[one]);
}

/** What the bundle states of itself: figures of a test beside the yardstick's, else its promise. @param {{quality: any}} props */
function Quality({ quality }) {
  const yardstick = quality.yardstick;
  const rows = Object.entries(FIGURES)
    .map(([name, ways]) => ({ name, own: estimate(quality, ways), other: yardstick && estimate(yardstick, ways) }))
    .filter((row) => row.own);
  const sentences = /** @type {string[]} */ (quality.synthetic_sensitivity?.sentences ?? []);
  const promise = quality.calibration?.warning ?? quality.calibration?.promise;
  return html`<div class="quality">
    ${
      rows.length > 0
        ? html`<table>
            <thead>
              <tr>
                <th scope="col">${t("product.measured")}</th>
                <th scope="col" class="number">${t("product.this_version")}</th>
                ${yardstick && html`<th scope="col" class="number">${t("product.yardstick")}</th>`}
              </tr>
            </thead>
            <tbody>
              ${rows.map(
                (row) => html`<tr key=${row.name}>
                  <th scope="row">${t(`product.figure_${row.name}`)}<span class="hint figure-hint">${t(`product.figure_${row.name}_text`)}</span></th>
                  <td class="number">${estimateText(row.own)}</td>
                  ${yardstick && html`<td class="number">${estimateText(row.other)}</td>`}
                </tr>`,
              )}
            </tbody>
          </table>
          <p class="hint">${t("product.interval_text")}</p>`
        : html`<p>${t("product.not_measured")} <code>glad evaluate BUNDLE --data DIR</code></p>`
    }
    ${promise && html`<p><strong>${t("product.promise")}</strong> ${promise}</p>`}
    ${
      sentences.length > 0 &&
      html`<details>
        <summary>${t("product.synthetic")}</summary>
        <ul>
          ${sentences.map((one) => html`<li key=${one}>${one}</li>`)}
        </ul>
      </details>`
    }
  </div>`;
}

/**
 * @param {any} figures
 * @param {string[][]} ways
 * @returns {Estimate | null} the first that is there
 */
function estimate(figures, ways) {
  for (const way of ways) {
    const found = way.reduce((at, name) => at?.[name], figures);
    if (typeof found?.value === "number") return found;
  }
  return null;
}

/** @param {Estimate | null | undefined} found */
function estimateText(found) {
  if (!found) return "–";
  const [value, low, high] = [found.value, found.low, found.high].map((one) =>
    formatNumber(one, { style: "percent", maximumFractionDigits: 1 }),
  );
  return t("product.estimate", { value, low, high });
}
