import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function LimitSamplesPage() {
  return html`<main><h1>${t("limit_samples.title")}</h1></main>`;
}
