/** The picture of an image to decide: to look at, or to draw regions on. */
import { artifactUrl } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { titleOf } from "../lib/reviewing.js";
import { t } from "../lib/texts.js";
import { DrawRegions } from "./draw_regions.js";
import { Viewer } from "./viewer.js";

/** @typedef {import("../lib/rectangles.js").Box} Box */

/**
 * @param {{
 *   task: import("../lib/claims.js").Task, regions: Box[] | null, isDrawing: boolean,
 *   isChoosing: boolean, onChange: (regions: Box[]) => void, children?: any,
 * }} props `regions` null: nobody has drawn, those of the model are shown; `children`: further buttons
 */
export function ReviewPicture({ task, regions, isDrawing, isChoosing, onChange, children }) {
  const { inspection, blind } = task;
  if (isDrawing) {
    return html`<${Drawing} inspection=${inspection} regions=${regions} onChange=${onChange}>${children}<//>`;
  }
  return html`<${Viewer} inspection=${inspection} imageOnly=${blind} hasKey=${!isChoosing} drawn=${regions ?? []} />
    <div class="draw-regions-tools">${children}</div>`;
}

/**
 * @param {{
 *   inspection: import("../lib/claims.js").Inspection, regions: Box[] | null, onChange: (regions: Box[]) => void,
 *   children?: any,
 * }} props
 */
function Drawing({ inspection, regions, onChange, children }) {
  const [source, setSource] = useState(/** @type {"preview.jpg" | "image" | null} */ ("preview.jpg"));
  const alt = t("review.image", { title: titleOf(inspection) });
  const size = { width: inspection.width ?? 0, height: inspection.height ?? 0 };
  const shown = regions ?? (inspection.regions ?? []).map((region) => region.box);
  if (source === null || size.width === 0 || size.height === 0) {
    return html`<p class="note note-problem">${t("review.no_picture")}</p>
      <div class="draw-regions-tools">${children}</div>`;
  }
  const insteadOf = () => setSource(source === "preview.jpg" ? "image" : null);
  return html`<p class="review-drawing" role="status">${t("review.drawing")}</p>
    <${DrawRegions} src=${artifactUrl(inspection.id, source)} alt=${alt} image=${size} regions=${shown}
      onChange=${onChange} onImageError=${insteadOf}>${children}<//>`;
}
