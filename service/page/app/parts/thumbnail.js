/** A small picture of an inspected image; a frame with words where it is no longer kept. */
import { artifactUrl } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** What is asked for, the smallest first: a service that draws no thumbnails has the image itself. */
const NAMES = ["thumbnail.jpg", "image"];

/** @param {{id: string, alt?: string}} props `alt`: "" where the text beside it says enough */
export function Thumbnail({ id, alt = "" }) {
  const [missing, setMissing] = useState(0);
  if (missing >= NAMES.length) return html`<span class="thumbnail thumbnail-gone">${t("thumbnail.gone")}</span>`;
  return html`<img
    class="thumbnail"
    src=${artifactUrl(id, NAMES[missing])}
    alt=${alt}
    loading="lazy"
    decoding="async"
    onError=${() => setMissing(missing + 1)}
  />`;
}
