/** The versions of a product with what was measured of them; which one inspects, and changing that. */
import { html, useState } from "../lib/html.js";
import { formatValue } from "../lib/limits.js";
import { Link } from "../lib/router.js";
import { hasScope } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { problemText } from "./problem.js";
import { changeProduct, productPath, refusalText } from "./product_data.js";
import { Evaluations } from "./product_evaluations.js";

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
    ${refused && html`<p class="note note-problem" role="alert">${refusalText(refused) ?? problemText(refused)}</p>`}
    <ul class="versions">
      ${product.versions.map(
        (/** @type {any} */ one) => html`<li class="card" key=${one.version} data-active=${one.version === active}>
          <div class="version-head">
            <h3>${t("product.version", { version: one.version })}</h3>
            ${one.version === active && html`<span class="badge">${t("product.inspects_now")}</span>`}
            <span class="hint">${t("product.made", { at: formatDate(one.created_at) })}</span>
          </div>
          <div class="quality">
            <${Evaluations} product=${product.product} version=${one} onChanged=${onChanged} />
            <${Promised} quality=${one.quality} />
          </div>
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

/** What its limits promise, and what was found of artificial defects when it was made. @param {{quality: any}} props */
function Promised({ quality }) {
  const sentences = /** @type {string[]} */ (quality.synthetic_sensitivity?.sentences ?? []);
  const promise = quality.calibration?.warning ?? quality.calibration?.promise;
  return html`
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
  `;
}
