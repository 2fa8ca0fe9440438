/** Inspections that a change concerns, each as its picture with a link. */
import { artifactUrl } from "../lib/api.js";
import { html } from "../lib/html.js";
import { Link } from "../lib/router.js";
import { t } from "../lib/texts.js";

const SHOWN = 6;

/** @param {{ids: string[]}} props the latest first */
export function Examples({ ids }) {
  if (ids.length === 0) return null;
  return html`<div class="examples">
    <span>${t("product.examples")}</span>
    ${ids.slice(0, SHOWN).map((id, place) => {
      const name = t("product.example", { n: place + 1 });
      return html`<${Link} key=${id} class="example" href=${`/inspections/${id}`}>
        <img src=${artifactUrl(id, "thumbnail.jpg")} alt=${name} />
      <//>`;
    })}
  </div>`;
}
