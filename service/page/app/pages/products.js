import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function ProductsPage() {
  return html`<main><h1>${t("products.title")}</h1></main>`;
}
