/** All products: which version inspects, under which limits, and whether bad images are stopped. */
import { api } from "../lib/api.js";
import { html } from "../lib/html.js";
import { formatValue } from "../lib/limits.js";
import { useLoaded } from "../lib/reading.js";
import { Link } from "../lib/router.js";
import { formatDate, t } from "../lib/texts.js";
import { ProblemNote } from "../parts/problem.js";
import { isOverridden } from "../parts/product_versions.js";

export default function ProductsPage() {
  const found = useLoaded("products", () => api.get("/v1/products"));
  const products = found.data?.products ?? [];
  return html`<main class="products-page">
    <h1>${t("products.title")}</h1>
    ${found.error && html`<${ProblemNote} error=${found.error} onRetry=${found.reload} />`}
    ${found.data && products.length === 0 && html`<p>${t("products.none")}</p>`}
    <ul class="products">
      ${products.map((/** @type {any} */ one) => html`<${ProductCard} key=${one.product} product=${one} />`)}
    </ul>
    <section class="note" aria-labelledby="teach">
      <h2 id="teach">${t("products.teach")}</h2>
      <p>${t("products.teach_text")}</p>
      <p><code>glad train light --data DIR --product NAME</code></p>
    </section>
  </main>`;
}

/** @param {{product: any}} props */
function ProductCard({ product }) {
  const { active, gate, versions } = product;
  return html`<li class="card">
    <h2><${Link} href=${`/products/${encodeURIComponent(product.product)}`}>${product.product}<//></h2>
    ${active.title && html`<p>${active.title}</p>`}
    <dl>
      <dt>${t("products.version")}</dt>
      <dd>${active.version} <span class="hint">${t("products.of", { n: versions.length })}</span></dd>
      <dt>${t("products.made")}</dt>
      <dd>${formatDate(active.created_at)}</dd>
      <dt>${t("products.limits")}</dt>
      <dd>
        ${t("product.limits_of", { review: formatValue(active.thresholds.review), fail: formatValue(active.thresholds.fail) })}${" "}
        ${isOverridden(active) && html`<span class="hint">${t("product.limits_changed")}</span>`}
      </dd>
      <dt>${t("product.gate")}</dt>
      <dd>${t(gate.limits === null ? "products.gate_none" : gate.on ? "products.gate_on" : "products.gate_off")}</dd>
    </dl>
  </li>`;
}
