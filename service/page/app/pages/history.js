import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function HistoryPage() {
  return html`<main><h1>${t("history.title")}</h1></main>`;
}
