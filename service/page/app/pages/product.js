import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function ProductPage() {
  return html`<main><h1>${t("product.title")}</h1></main>`;
}
