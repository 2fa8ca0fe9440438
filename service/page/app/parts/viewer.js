/** A part's picture: input and reconstruction side by side under a slider, heat laid over it, regions outlined. */
import { useZoom } from "../lib/gestures.js";
import { html, useState } from "../lib/html.js";
import { useKeys } from "../lib/keys.js";
import { hottestPlace, regionMarks } from "../lib/marks.js";
import { usePicture } from "../lib/pictures.js";
import { t } from "../lib/texts.js";
import { ZoomStage } from "./zoom.js";

/** @typedef {[number, number, number, number]} Box x, y, width, height in pixels of the upright original */
/** @typedef {import("../lib/zoom.js").Size} Size */

/**
 * What the viewer shows.
 * @typedef {object} ViewerProps
 * @property {any} inspection as `GET /v1/inspections/{id}` gives it; null: an empty stage. Only `id` is needed; without
 *   `width` and `height` the preview's are taken, and without `regions`, `hottest` and `verdict` nothing is marked
 * @property {boolean} [imageOnly] the image alone: no reconstruction, no heat, no marks (for who must judge unaided)
 * @property {boolean} [hasKey] whether H shows the image alone; false while the page takes all letters for itself
 * @property {Box[]} [drawn] boxes that a person drew
 * @property {any} [children] what lies over the stage's corner, such as a note
 */

const HEAT = 0.7;

/**
 * The view (zoom, slider, heat) stays when the inspection changes: who watches one place goes on watching it.
 * Keys: H shows the image alone, and again all; while it has the focus + − 0 zoom, arrows move what is zoomed.
 * @param {ViewerProps} props
 */
export function Viewer({ inspection, imageOnly = false, hasKey = true, drawn = [], children }) {
  const [split, setSplit] = useState(0);
  const [heat, setHeat] = useState(HEAT);
  const [hasMarks, setHasMarks] = useState(true);
  const [isBare, setBare] = useState(false);
  const natural = useNaturalSize(inspection);
  const id = inspection?.id ?? "";
  const artifacts = inspection?.artifacts ?? {};
  const canCompare = !imageOnly && "reconstruction.png" in artifacts;
  const canHeat = !imageOnly && "heatmap.png" in artifacts;
  const isCompared = canCompare && !isBare && split > 0;
  const reconstruction = usePicture(id, "reconstruction.png", isCompared);
  useKeys({ h: () => setBare(!isBare) }, { enabled: hasKey && !imageOnly });
  return html`<div class="viewer">
    <${Stage}
      inspection=${inspection}
      natural=${natural}
      reconstruction=${canCompare ? reconstruction : null}
      split=${isCompared ? split : 0}
      heat=${canHeat && !isBare ? heat : 0}
      hasMarks=${hasMarks && !imageOnly && !isBare}
      drawn=${drawn}
    >${children}<//>
    ${
      !imageOnly &&
      html`<div class="viewer-controls">
        <label>${t("viewer.reconstruction")}
          <input type="range" min="0" max="100" step="5" value=${split} disabled=${!canCompare} onInput=${(/** @type {any} */ event) => setSplit(Number(event.currentTarget.value))} />
        </label>
        <label>${t("viewer.heat")}
          <input type="range" min="0" max="1" step="0.05" value=${heat} disabled=${!canHeat} onInput=${(/** @type {any} */ event) => setHeat(Number(event.currentTarget.value))} />
        </label>
        <label class="viewer-check"><input type="checkbox" checked=${hasMarks} onChange=${(/** @type {any} */ event) => setHasMarks(event.currentTarget.checked)} />${t("viewer.marks")}</label>
        <button type="button" aria-pressed=${isBare} onClick=${() => setBare(!isBare)}>${t("viewer.bare")} <kbd>H</kbd></button>
      </div>`
    }
  </div>`;
}

/**
 * @param {{inspection: any, natural: {size: Size | null, onLoad: (event: Event) => void}, heat: number, split: number,
 *   reconstruction: import("../lib/pictures.js").Picture | null, hasMarks: boolean, drawn: Box[],
 *   children?: any}} props
 */
function Stage({ inspection, natural, reconstruction, split, heat, hasMarks, drawn, children }) {
  const picture = natural.size ?? { width: 4, height: 3 };
  const zoom = useZoom(picture);
  const preview = usePicture(inspection?.id ?? "", "preview.jpg", Boolean(inspection));
  const heated = usePicture(inspection?.id ?? "", "heat.png", heat > 0);
  const reconstructed = (split > 0 && reconstruction?.state) || "none";
  const over = html`<${Status} preview=${preview.state} reconstruction=${reconstructed} />${children}`;
  return html`<${ZoomStage} zoom=${zoom} label=${t("viewer.label")} over=${over}>
    ${
      inspection &&
      preview.url &&
      html`<img key=${preview.url} class="viewer-layer" alt=${t("viewer.alt", { serial: inspection.serial ?? "–" })}
        data-picture=${inspection.id} src=${preview.url} draggable=${false} onLoad=${natural.onLoad} />`
    }
    ${
      inspection &&
      reconstruction?.url &&
      html`<img class="viewer-layer" alt="" src=${reconstruction.url} draggable=${false}
        style=${{ clipPath: `inset(0 0 0 ${100 - split}%)` }} />`
    }
    ${
      inspection &&
      heated.url &&
      html`<img key=${heated.url} class="viewer-layer viewer-heat" alt="" draggable=${false}
        src=${heated.url} style=${{ opacity: heat }} />`
    }
    ${inspection && hasMarks && html`<${Marks} inspection=${{ ...inspection, ...picture }} />`}
    ${drawn.map((box, at) => html`<${Outline} key=${at} box=${box} size=${picture} kind="drawn" label=${t("viewer.drawn")} />`)}
    ${split > 0 && html`<div class="viewer-split" style=${{ left: `${100 - split}%` }}></div>`}
  <//>`;
}

/** @param {{preview: import("../lib/pictures.js").PictureState, reconstruction: import("../lib/pictures.js").PictureState}} props */
function Status({ preview, reconstruction }) {
  let text = "";
  if (preview === "gone") text = t("viewer.no_picture");
  else if (preview === "away" || reconstruction === "away") text = t("viewer.away");
  else if (preview === "loading" || reconstruction === "loading") text = t("viewer.loading");
  else if (reconstruction === "drawing") text = t("viewer.drawing");
  else if (reconstruction === "gone") text = t("viewer.no_reconstruction");
  return html`<p class="viewer-status" role="status">${text}</p>`;
}

/** @param {{inspection: any}} props */
function Marks({ inspection }) {
  const marks = regionMarks(inspection);
  const hottest = hottestPlace(inspection);
  let number = 0;
  return html`<div class="viewer-marks">
    ${marks.map((mark) => {
      const label = mark.specks > 1 ? t("viewer.specks", { n: mark.specks }) : String(++number);
      return html`<${Outline} key=${mark.box.join()} box=${mark.box} size=${inspection} kind=${mark.specks ? "specks" : "region"} label=${label} />`;
    })}
    ${
      hottest &&
      html`<svg class="viewer-hottest" viewBox="0 0 48 48" role="img" aria-label=${t("viewer.hottest")}
        style=${{ left: percent(hottest.x, inspection.width), top: percent(hottest.y, inspection.height) }}>
        <path class="halo" d=${CROSS} /><path d=${CROSS} />
      </svg>`
    }
  </div>`;
}

const CROSS = "M24 10a14 14 0 1 0 0 28 14 14 0 0 0 0-28M24 1v14M24 33v14M1 24h14M33 24h14";

/** @param {{box: Box, size: Size, kind: "region" | "specks" | "drawn", label?: string}} props */
function Outline({ box, size, kind, label }) {
  const style = {
    left: percent(box[0], size.width),
    top: percent(box[1], size.height),
    width: percent(box[2], size.width),
    height: percent(box[3], size.height),
  };
  return html`<div class=${`viewer-outline outline-${kind}`} style=${style}>
    ${label && html`<span class="viewer-label">${label}</span>`}
  </div>`;
}

/**
 * @param {number} value
 * @param {number} whole
 */
function percent(value, whole) {
  return `${(100 * value) / (whole || 1)}%`;
}

/**
 * Return the size of the upright original, or of the preview where the inspection does not say.
 * @param {any} inspection
 * @returns {{size: Size | null, onLoad: (event: Event) => void}}
 */
function useNaturalSize(inspection) {
  const [loaded, setLoaded] = useState(/** @type {{id: string, size: Size} | null} */ (null));
  const onLoad = (/** @type {Event} */ event) => {
    const image = /** @type {HTMLImageElement} */ (event.currentTarget);
    setLoaded({ id: inspection.id, size: { width: image.naturalWidth, height: image.naturalHeight } });
  };
  if (inspection?.width && inspection.height) {
    return { size: { width: inspection.width, height: inspection.height }, onLoad: () => {} };
  }
  return { size: loaded && loaded.id === inspection?.id ? loaded.size : null, onLoad };
}
