/**
 * Rectangles drawn over an image by mouse, touch or keyboard, in pixels of the upright original.
 *
 * One pointer draws, moves or resizes; two fingers, the wheel and the keys of every picture zoom and move the image.
 *
 * | key | what it does to the rectangle that has the focus |
 * |---|---|
 * | arrows | move it by a pixel of the screen or of the image, whichever is more; with Shift ten |
 * | Alt and arrows | make it larger or smaller |
 * | Delete, Backspace | remove it |
 * | Insert, Enter (on the image) | add one in the middle of what is seen |
 */

import { takeFocus } from "../lib/focus.js";
import { useZoom } from "../lib/gestures.js";
import { html, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { boxAround, boxBetween, HANDLES, moveBox, resizeBox } from "../lib/rectangles.js";
import { t } from "../lib/texts.js";
import { ZoomStage } from "./zoom.js";

/** @typedef {import("../lib/rectangles.js").Box} Box */
/** @typedef {import("../lib/rectangles.js").Point} Point */
/** @typedef {import("../lib/rectangles.js").Size} Size */

/** The service keeps no more of one review. */
const MOST_REGIONS = 64;
/** A movement of fewer pixels of the screen draws nothing: it was a tap. */
const LEAST_DRAG_PX = 6;
/** Half the side of what can be touched of a handle, in pixels of the screen; less where the rectangle is small. */
const HANDLE_REACH_PX = 22;

/**
 * What one pointer does to the rectangles since it went down; `down`: where that was on the screen.
 * @typedef {{
 *   kind: "draw" | "move" | "resize", from: Point, down: Point, index: number, box: Box, handle: string, moved: boolean,
 * }} Dragging
 */

/**
 * Show an image with rectangles; `onChange` gets all of them after each change that is complete.
 * @param {{
 *   src: string, alt: string, image: Size, regions: readonly Box[], onChange: (regions: Box[]) => void,
 *   onImageError?: () => void, children?: any,
 * }} props `children`: further buttons
 */
export function DrawRegions({ src, alt, image, regions, onChange, onImageError, children }) {
  const [draft, setDraft] = useState(/** @type {{index: number, box: Box} | null} */ (null));
  const [selected, setSelected] = useState(-1);
  const zoom = useZoom(image, useDragging({ image, regions, setDraft, setSelected, onChange }));
  const keys = useRegionKeys({ image, regions, zoom, setSelected, onChange });
  useLayoutEffect(() => takeFocus(zoom.stage.current), []); // its keys draw at once
  const shown = regions.map((box, index) => (draft?.index === index ? draft.box : box));
  if (draft && draft.index === regions.length) {
    shown.push(draft.box);
  }
  return html`<div class="draw-regions">
    <${ZoomStage} zoom=${zoom} label=${alt} isDrawing onKeyDown=${keys.onKeyDown}>
      <img class="viewer-layer" src=${src} alt=${alt} draggable=${false} onError=${onImageError} />
      <svg class="viewer-layer" viewBox=${`0 0 ${image.width} ${image.height}`} preserveAspectRatio="none">
        ${shown.map(
          (box, index) => html`<${Region} box=${box} index=${index} unit=${1 / zoom.scale}
          selected=${selected === index} onFocus=${() => setSelected(index)} />`,
        )}
      </svg>
    <//>
    <div class="draw-regions-tools">
      ${children}
      <button type="button" onClick=${keys.add}>${t("regions.add")}</button>
      <button type="button" disabled=${!regions[selected]} onClick=${() => keys.remove(selected)}>
        ${t("regions.remove")}
      </button>
    </div>
  </div>`;
}

/**
 * @param {{box: Box, index: number, unit: number, selected: boolean, onFocus: () => void}} props
 */
function Region({ box, index, unit, selected, onFocus }) {
  const [x, y, width, height] = box;
  const label = t("regions.region", { n: index + 1, x, y, width, height });
  const rectangle = { x, y, width, height };
  return html`<g
    class=${`draw-region${selected ? " draw-region-selected" : ""}`}
    role="button"
    tabindex="0"
    aria-label=${label}
    data-region=${index}
    onFocus=${onFocus}
  >
    <rect class="draw-region-under" ...${rectangle} vector-effect="non-scaling-stroke" />
    <rect class="draw-region-line" ...${rectangle} vector-effect="non-scaling-stroke" />
    ${
      selected &&
      Object.entries(HANDLES).map(([name, handle]) => {
        const reach = Math.min(HANDLE_REACH_PX * unit, Math.max(Math.min(width, height) / 3, 5 * unit));
        const centre = { cx: x + (width * (handle.x + 1)) / 2, cy: y + (height * (handle.y + 1)) / 2 };
        return html`<g class="draw-region-handle" data-region=${index} data-handle=${name}>
        <circle class="draw-region-reach" ...${centre} r=${reach} />
        <circle class="draw-region-knob" ...${centre} r=${5 * unit} vector-effect="non-scaling-stroke" />
      </g>`;
      })
    }
  </g>`;
}

/**
 * @typedef {{
 *   image: Size, regions: readonly Box[], setSelected: (index: number) => void, onChange: (regions: Box[]) => void,
 * }} Editing
 */

/**
 * Return what one pointer does on the image: it draws, moves or resizes a rectangle.
 * @param {Editing & {setDraft: (draft: {index: number, box: Box} | null) => void}} editing
 * @returns {import("../lib/gestures.js").Drag}
 */
function useDragging({ image, regions, setDraft, setSelected, onChange }) {
  const dragging = useRef(/** @type {Dragging | null} */ (null));
  /** @type {import("../lib/gestures.js").Drag["begin"]} */
  const begin = (event, from) => {
    if (regions.length >= MOST_REGIONS && regionOf(event) < 0) return false;
    const begun = beginDrag(event, from, regions);
    dragging.current = begun;
    setSelected(begun.kind === "draw" ? -1 : begun.index);
    return true;
  };
  /** @type {import("../lib/gestures.js").Drag["move"]} */
  const move = (event, to) => {
    const going = /** @type {Dragging} */ (dragging.current);
    going.moved ||= Math.hypot(event.clientX - going.down.x, event.clientY - going.down.y) >= LEAST_DRAG_PX;
    if (going.moved) setDraft({ index: going.index, box: dragged(going, to, image) });
  };
  /** @type {import("../lib/gestures.js").Drag["end"]} */
  const end = (to) => {
    const going = /** @type {Dragging} */ (dragging.current);
    setDraft(null);
    if (to && going.moved) {
      const changed = [...regions];
      changed[going.index] = dragged(going, to, image);
      onChange(changed);
      setSelected(going.index);
    }
  };
  return { begin, move, end };
}

/**
 * @param {PointerEvent} event
 * @param {Point} from
 * @param {readonly Box[]} regions
 * @returns {Dragging}
 */
function beginDrag(event, from, regions) {
  const index = regionOf(event);
  const box = regions[index];
  const begun = { from, down: { x: event.clientX, y: event.clientY }, moved: false };
  if (!box) {
    return { ...begun, kind: "draw", index: regions.length, box: [0, 0, 1, 1], handle: "" };
  }
  const handle = /** @type {Element} */ (event.target).closest("[data-handle]")?.getAttribute("data-handle") ?? "";
  return { ...begun, kind: handle ? "resize" : "move", index, box, handle };
}

/** Return which rectangle an event is about; -1: none. @param {Event} event */
function regionOf(event) {
  const target = /** @type {Element} */ (event.target).closest("[data-region]");
  return Number(target?.getAttribute("data-region") ?? -1);
}

/**
 * Return the rectangle that a drag has made so far.
 * @param {Dragging} drag
 * @param {Point} to
 * @param {Size} image
 * @returns {Box}
 */
function dragged(drag, to, image) {
  if (drag.kind === "draw") {
    return boxBetween(drag.from, to, image);
  }
  const by = { x: to.x - drag.from.x, y: to.y - drag.from.y };
  const handle = HANDLES[drag.handle];
  return handle ? resizeBox(drag.box, handle, by, image) : moveBox(drag.box, by, image);
}

/** @type {Readonly<Record<string, Point>>} */
const ARROWS = Object.freeze({
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
});

/**
 * Return what the keyboard does, as the table at the top of this file says.
 * @param {Editing & {zoom: import("../lib/gestures.js").Zoom}} editing
 */
function useRegionKeys({ image, regions, zoom, setSelected, onChange }) {
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.metaKey) {
      return;
    }
    const index = regionOf(event);
    if (editKey(event, index)) {
      event.preventDefault();
      event.stopPropagation();
    } else {
      zoom.handlers.onKeyDown(event);
    }
  };
  const add = () => {
    if (regions.length >= MOST_REGIONS) return;
    onChange([...regions, boxAround(zoom.middle(), image)]);
    focusRegion(zoom.place, regions.length);
  };
  /** @param {number} index */
  const remove = (index) => {
    onChange(regions.filter((_, place) => place !== index));
    setSelected(-1);
    zoom.stage.current?.focus();
  };
  return { onKeyDown, add, remove };

  /** @param {KeyboardEvent} event @param {number} index @returns {boolean} whether the key means something here */
  function editKey(event, index) {
    const box = regions[index];
    const arrow = ARROWS[event.key];
    if (box && arrow) {
      const step = Math.max(1, Math.round(1 / zoom.scale)) * (event.shiftKey ? 10 : 1);
      const by = { x: arrow.x * step, y: arrow.y * step };
      const changed = event.altKey ? resizeBox(box, { x: 1, y: 1 }, by, image) : moveBox(box, by, image);
      onChange(regions.map((one, place) => (place === index ? changed : one)));
      return true;
    }
    if (box && (event.key === "Delete" || event.key === "Backspace")) {
      remove(index);
      return true;
    }
    if (event.key === "Insert" || (event.key === "Enter" && !box)) {
      add();
      return true;
    }
    return false;
  }
}

/**
 * Give a rectangle the focus when it has been drawn.
 * @param {{current: HTMLElement | null}} place
 * @param {number} index
 */
function focusRegion(place, index) {
  requestAnimationFrame(() => {
    const region = place.current?.querySelector(`g.draw-region[data-region="${index}"]`);
    /** @type {SVGElement | null | undefined} */ (region)?.focus();
  });
}
