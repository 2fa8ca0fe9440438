/** A product: its versions, its thresholds and quality gate with what a change does, and who changed what. */
import { api } from "../lib/api.js";
import { html } from "../lib/html.js";
import { useLoaded } from "../lib/reading.js";
import { Link } from "../lib/router.js";
import { t } from "../lib/texts.js";
import { ProblemNote } from "../parts/problem.js";
import { Changes } from "../parts/product_changes.js";
import { productPath } from "../parts/product_data.js";
import { Gate } from "../parts/product_gate.js";
import { Thresholds } from "../parts/product_thresholds.js";
import { Versions } from "../parts/product_versions.js";

/** @param {{params: Record<string, string>, query: Record<string, string>}} props */
export default function ProductPage({ params, query }) {
  const found = useLoaded(params.product, () => api.get(productPath(params.product)));
  const product = found.data;
  const shown = product?.versions.find((/** @type {any} */ one) => one.version === query.version) ?? product?.active;
  return html`<main class="product-page">
    <p class="crumb"><${Link} href="/products">${t("products.title")}<//></p>
    <h1>${params.product}${product?.active.title ? ` – ${product.active.title}` : ""}</h1>
    ${found.error && html`<${ProblemNote} error=${found.error} onRetry=${found.reload} />`}
    ${
      product &&
      html`<${Versions} product=${product} shown=${shown} onChanged=${found.reload} />
        ${shown.version !== product.active.version && html`<p class="note">${t("product.shown_version", { version: shown.version, active: product.active.version })}</p>`}
        <${Thresholds} product=${product} version=${shown} onChanged=${found.reload} />
        <${Gate} product=${product} version=${shown} onChanged=${found.reload} />
        <${Changes} product=${product} onChanged=${found.reload} />`
    }
  </main>`;
}
