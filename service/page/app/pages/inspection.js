import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function InspectionPage() {
  return html`<main><h1>${t("inspection.title")}</h1></main>`;
}
