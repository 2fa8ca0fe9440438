import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

export default function ReviewPage() {
  return html`<main><h1>${t("review.title")}</h1></main>`;
}
