import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function LinePage() {
  return html`<main><h1>${t("line.title")}</h1></main>`;
}
