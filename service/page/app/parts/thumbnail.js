/** A small picture of an inspected image; a frame with words where it is no longer kept. */
import { artifactUrl } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** @param {{id: string, alt?: string}} props `alt`: "" where the text beside it says enough */
export function Thumbnail({ id, alt = "" }) {
  const [isGone, setIsGone] = useState(false);
  if (isGone) return html`<span class="thumbnail thumbnail-gone">${t("thumbnail.gone")}</span>`;
  return html`<img
    class="thumbnail"
    src=${artifactUrl(id, "thumbnail.jpg")}
    alt=${alt}
    loading="lazy"
    decoding="async"
    onError=${() => setIsGone(true)}
  />`;
}
