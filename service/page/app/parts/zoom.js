/** The stage of a picture: it can be zoomed and moved there, by the same keys and gestures on every page. */
import { html } from "../lib/html.js";
import { formatNumber, t } from "../lib/texts.js";

const BUTTON_STEP = 1.5;

/**
 * @param {{
 *   zoom: import("../lib/gestures.js").Zoom, label: string, isDrawing?: boolean, over?: any, children: any,
 *   onKeyDown?: (event: KeyboardEvent) => void,
 * }} props `children` lie on the picture and grow with it; `over`: lies over the stage, as it is; `onKeyDown`: in place
 *   of the stage's own, which it may call
 */
export function ZoomStage({ zoom, label, isDrawing = false, over, children, onKeyDown = zoom.handlers.onKeyDown }) {
  const { view, plane, stage, place, handlers, zoomBy, reset } = zoom;
  const classes = `viewer-stage${view.scale > 1 ? " is-zoomed" : ""}${isDrawing ? " is-drawing" : ""}`;
  return html`<div class="viewer-frame">
    <div class=${classes} ref=${stage} tabindex="0" role="group" aria-label=${label} ...${handlers} onKeyDown=${onKeyDown}>
      <div class="viewer-place" ref=${place} style=${{ width: `${plane.width}px`, height: `${plane.height}px` }}>
        <div class="viewer-plane" style=${planeStyle(view, plane)}>${children}</div>
      </div>
    </div>
    ${over}
    <div class="viewer-zoom">
      <button type="button" aria-label=${t("viewer.zoom_out")} onClick=${() => zoomBy(1 / BUTTON_STEP)}>−</button>
      <button type="button" aria-label=${t("viewer.zoom_whole")} onClick=${reset}>${formatNumber(view.scale, { style: "percent" })}</button>
      <button type="button" aria-label=${t("viewer.zoom_in")} onClick=${() => zoomBy(BUTTON_STEP)}>+</button>
    </div>
  </div>`;
}

/**
 * Lines on the plane keep their width, because its size grows instead of its scale.
 * @param {import("../lib/zoom.js").View} view
 * @param {import("../lib/zoom.js").Size} plane at scale 1
 */
function planeStyle(view, plane) {
  return {
    width: `${plane.width * view.scale}px`,
    height: `${plane.height * view.scale}px`,
    transform: `translate(${view.x}px, ${view.y}px)`,
  };
}
