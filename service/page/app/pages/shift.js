import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function ShiftPage() {
  return html`<main><h1>${t("shift.title")}</h1></main>`;
}
