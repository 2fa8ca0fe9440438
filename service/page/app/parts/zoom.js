/** An image fitted into its window, and made larger there: by buttons, keys, wheel, or two fingers. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { clamp } from "../lib/rectangles.js";
import { t } from "../lib/texts.js";

/** @typedef {import("../lib/rectangles.js").Point} Point */
/** @typedef {import("../lib/rectangles.js").Size} Size */
/** @typedef {ReturnType<typeof useZoom>} View */

const MOST_ZOOM = 16;
const ZOOM_STEP = 1.5;

/**
 * A place of the image that has to be under a place of the screen after the zoom has changed.
 * @typedef {{image: Point, clientX: number, clientY: number}} Anchor
 */

/**
 * @param {{view: View}} props
 */
export function ZoomButtons({ view }) {
  return html`<div class="draw-regions-zoom" role="group" aria-label=${t("regions.zoom")}>
    <button type="button" aria-label=${t("regions.zoom_out")} disabled=${view.zoom <= 1}
      onClick=${() => view.zoomBy(1 / ZOOM_STEP)}>−</button>
    <button type="button" aria-label=${t("regions.zoom_all")} disabled=${view.zoom === 1}
      onClick=${() => view.zoomTo(1)}>${Math.round(view.zoom * 100)} %</button>
    <button type="button" aria-label=${t("regions.zoom_in")} disabled=${view.zoom >= MOST_ZOOM}
      onClick=${() => view.zoomBy(ZOOM_STEP)}>+</button>
  </div>`;
}

/**
 * Fit the image into its window, and zoom: `scale` is pixels of the screen per pixel of the image.
 * @param {Size} image
 */
export function useZoom(image) {
  const window = useRef(/** @type {HTMLElement | null} */ (null));
  const drawing = useRef(/** @type {SVGSVGElement | null} */ (null));
  const anchor = useRef(/** @type {Anchor | null} */ (null));
  const [zoom, setZoom] = useState(1);
  const fit = useFit(window, image);
  const scale = fit * zoom;

  useEffect(() => setZoom(1), [image.width, image.height]);
  useLayoutEffect(() => {
    if (anchor.current && window.current && drawing.current) {
      const { image: place, clientX, clientY } = anchor.current;
      const edge = drawing.current.getBoundingClientRect();
      window.current.scrollLeft += edge.left + place.x * scale - clientX;
      window.current.scrollTop += edge.top + place.y * scale - clientY;
      anchor.current = null;
    }
  }, [scale]);

  /** @param {{clientX: number, clientY: number}} event @returns {Point} */
  const imagePoint = (event) => {
    const edge = /** @type {SVGSVGElement} */ (drawing.current).getBoundingClientRect();
    return { x: (event.clientX - edge.left) / scale, y: (event.clientY - edge.top) / scale };
  };
  const middle = () => {
    const edge = /** @type {HTMLElement} */ (window.current).getBoundingClientRect();
    return { clientX: edge.left + edge.width / 2, clientY: edge.top + edge.height / 2 };
  };
  /** @param {number} wanted @param {{clientX: number, clientY: number}} [around] */
  const zoomTo = (wanted, around = middle()) => {
    const allowed = clamp(wanted, 1, MOST_ZOOM);
    if (allowed !== zoom) {
      anchor.current = { image: imagePoint(around), clientX: around.clientX, clientY: around.clientY };
      setZoom(allowed);
    }
  };
  /** @param {number} factor @param {{clientX: number, clientY: number}} [around] */
  const zoomBy = (factor, around) => zoomTo(zoom * factor, around);
  useWheel(window, zoomBy);
  const size = { width: image.width * scale, height: image.height * scale };
  return { window, drawing, zoom, scale, ...size, imagePoint, middle, zoomTo, zoomBy };
}

/**
 * Return the largest scale at which all of the image is in its window.
 * @param {{current: HTMLElement | null}} window
 * @param {Size} image
 */
function useFit(window, image) {
  const [fit, setFit] = useState(0.1);
  useLayoutEffect(() => {
    const element = /** @type {HTMLElement} */ (window.current);
    const measure = () =>
      setFit(Math.max(0.001, Math.min(element.offsetWidth / image.width, element.offsetHeight / image.height)));
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, [image.width, image.height]);
  return fit;
}

/**
 * Zoom by the wheel with Ctrl, which is also what a touchpad's pinch sends.
 * @param {{current: HTMLElement | null}} window
 * @param {(factor: number, around: WheelEvent) => void} zoomBy
 */
function useWheel(window, zoomBy) {
  const latest = useRef(zoomBy);
  latest.current = zoomBy;
  useLayoutEffect(() => {
    const element = /** @type {HTMLElement} */ (window.current);
    /** @param {WheelEvent} event */
    const onWheel = (event) => {
      if (event.ctrlKey) {
        event.preventDefault();
        latest.current(2 ** (-event.deltaY / 200), event);
      }
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, []);
}

/**
 * Zoom by a key; return whether it was one for that.
 * @param {string} key
 * @param {View} view
 */
export function zoomKey(key, view) {
  const factor = { "+": ZOOM_STEP, "=": ZOOM_STEP, "-": 1 / ZOOM_STEP }[key];
  if (factor) {
    view.zoomBy(factor);
  } else if (key === "0") {
    view.zoomTo(1);
  }
  return Boolean(factor) || key === "0";
}
