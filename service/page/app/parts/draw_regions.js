/**
 * Rectangles drawn over an image by mouse, touch or keyboard, in pixels of the upright original.
 *
 * The image lies in a box that scrolls; zooming makes it larger there. While `editing`, one pointer draws, moves or
 * resizes, and two fingers zoom and shift. Else the rectangles are only shown.
 *
 * | key | what it does to the rectangle that has the focus |
 * |---|---|
 * | arrows | move it by a pixel of the screen or of the image, whichever is more; with Shift ten |
 * | Alt and arrows | make it larger or smaller |
 * | Delete, Backspace | remove it |
 * | Insert, Enter (on the image) | add one in the middle of what is seen |
 * | + and -, 0 | zoom; all of the image |
 */

import { html, useCallback, useRef, useState } from "../lib/html.js";
import { boxAround, boxBetween, HANDLES, moveBox, resizeBox } from "../lib/rectangles.js";
import { t } from "../lib/texts.js";
import { useZoom, ZoomButtons, zoomKey } from "./zoom.js";

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
 * What one pointer does to the rectangles since it went down.
 * @typedef {{kind: "draw" | "move" | "resize", from: Point, index: number, box: Box, handle: string, moved: boolean}} Drag
 */

/**
 * Two fingers that zoom: their distance when they began, and the zoom at that time.
 * @typedef {{distance: number, zoom: number}} Pinch
 */

/**
 * Show an image with rectangles; `onChange` gets all of them after each change that is complete.
 * @param {{
 *   src: string, alt: string, image: Size, regions: readonly Box[], editing: boolean,
 *   onChange: (regions: Box[]) => void, onImageError?: () => void, children?: any,
 * }} props `children`: further buttons
 */
export function DrawRegions({ src, alt, image, regions, editing, onChange, onImageError, children }) {
  const view = useZoom(image);
  const [draft, setDraft] = useState(/** @type {{index: number, box: Box} | null} */ (null));
  const [selected, setSelected] = useState(-1);
  const pointers = useDragging({ image, regions, editing, view, setDraft, setSelected, onChange });
  const keys = useRegionKeys({ image, regions, editing, view, setSelected, onChange });
  const shown = regions.map((box, index) => (draft?.index === index ? draft.box : box));
  if (draft && draft.index === regions.length) {
    shown.push(draft.box);
  }
  const unit = 1 / view.scale;
  return html`<div class="draw-regions" data-editing=${editing}>
    <div class="draw-regions-window" ref=${view.window} tabindex="0" role="group" aria-label=${alt} onKeyDown=${keys.onKeyDown}>
      <div class="draw-regions-stage" style=${{ width: `${view.width}px`, height: `${view.height}px` }}>
        <img src=${src} alt=${alt} draggable=${false} onError=${onImageError} />
        <svg
          ref=${view.drawing}
          viewBox=${`0 0 ${image.width} ${image.height}`}
          preserveAspectRatio="none"
          ...${pointers}
        >
          ${shown.map(
            (box, index) => html`<${Region} box=${box} index=${index} unit=${unit} editing=${editing}
            selected=${editing && selected === index} onFocus=${() => setSelected(index)} />`,
          )}
        </svg>
      </div>
    </div>
    <div class="draw-regions-tools">
      ${children}
      ${
        editing &&
        html`<button type="button" onClick=${keys.add}>${t("regions.add")}</button>
        <button type="button" disabled=${!regions[selected]} onClick=${() => keys.remove(selected)}>
          ${t("regions.remove")}
        </button>`
      }
      <${ZoomButtons} view=${view} />
    </div>
  </div>`;
}

/**
 * @param {{box: Box, index: number, unit: number, editing: boolean, selected: boolean, onFocus: () => void}} props
 */
function Region({ box, index, unit, editing, selected, onFocus }) {
  const [x, y, width, height] = box;
  const label = t("regions.region", { n: index + 1, x, y, width, height });
  const rectangle = { x, y, width, height };
  return html`<g
    class=${`draw-region${selected ? " draw-region-selected" : ""}`}
    role=${editing ? "button" : "img"}
    tabindex=${editing ? 0 : undefined}
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
 *   image: Size, regions: readonly Box[], editing: boolean, view: import("./zoom.js").View,
 *   setDraft: (draft: {index: number, box: Box} | null) => void, setSelected: (index: number) => void,
 *   onChange: (regions: Box[]) => void,
 * }} Editing
 */

/**
 * Return the pointer events of the drawing: one pointer draws, moves or resizes; a second one makes it a pinch.
 * @param {Editing} editing
 */
function useDragging({ image, regions, editing, view, setDraft, setSelected, onChange }) {
  const down = useRef(/** @type {Map<number, PointerEvent>} */ (new Map()));
  const drag = useRef(/** @type {Drag | null} */ (null));
  const pinch = useRef(/** @type {Pinch | null} */ (null));

  const stop = useCallback(() => {
    drag.current = null;
    setDraft(null);
  }, []);
  /** @param {PointerEvent} event */
  const onPointerDown = (event) => {
    if (event.button !== 0) {
      return;
    }
    down.current.set(event.pointerId, event);
    /** @type {Element} */ (event.currentTarget).setPointerCapture(event.pointerId);
    if (down.current.size === 2) {
      stop();
      pinch.current = { distance: distanceOf(down.current), zoom: view.zoom };
    } else if (down.current.size === 1 && (regions.length < MOST_REGIONS || regionOf(event) >= 0)) {
      drag.current = beginDrag(event, view.imagePoint(event), regions);
      setSelected(drag.current.kind === "draw" ? -1 : drag.current.index);
    }
  };
  /** @param {PointerEvent} event */
  const onPointerMove = (event) => {
    const before = down.current.get(event.pointerId);
    if (!before) {
      return;
    }
    if (pinch.current) {
      const from = middleOf(down.current);
      down.current.set(event.pointerId, event);
      const to = middleOf(down.current);
      shift(view.window.current, from.clientX - to.clientX, from.clientY - to.clientY);
      view.zoomTo((pinch.current.zoom * distanceOf(down.current)) / pinch.current.distance, to);
    } else if (drag.current) {
      const going = drag.current;
      going.moved ||= Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY) >= LEAST_DRAG_PX;
      if (going.moved) {
        setDraft({ index: going.index, box: dragged(going, view.imagePoint(event), image) });
      }
    }
  };
  /** @param {PointerEvent} event */
  const onPointerUp = (event) => {
    const going = drag.current;
    if (going?.moved && down.current.has(event.pointerId)) {
      const changed = [...regions];
      changed[going.index] = dragged(going, view.imagePoint(event), image);
      onChange(changed);
      setSelected(going.index);
    }
    onPointerCancel(event);
  };
  /** @param {PointerEvent} event */
  const onPointerCancel = (event) => {
    down.current.delete(event.pointerId);
    pinch.current = null;
    stop();
  };
  return editing ? { onPointerDown, onPointerMove, onPointerUp, onPointerCancel } : {};
}

/**
 * @param {PointerEvent} event
 * @param {Point} from
 * @param {readonly Box[]} regions
 * @returns {Drag}
 */
function beginDrag(event, from, regions) {
  const index = regionOf(event);
  const box = regions[index];
  if (!box) {
    return { kind: "draw", from, index: regions.length, box: [0, 0, 1, 1], handle: "", moved: false };
  }
  const handle = /** @type {Element} */ (event.target).closest("[data-handle]")?.getAttribute("data-handle") ?? "";
  return { kind: handle ? "resize" : "move", from, index, box, handle, moved: false };
}

/** Return which rectangle an event is about; -1: none. @param {Event} event */
function regionOf(event) {
  const target = /** @type {Element} */ (event.target).closest("[data-region]");
  return Number(target?.getAttribute("data-region") ?? -1);
}

/**
 * Return the rectangle that a drag has made so far.
 * @param {Drag} drag
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

/**
 * @param {Map<number, PointerEvent>} pointers
 */
function distanceOf(pointers) {
  const [a, b] = [...pointers.values()];
  return a && b ? Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)) : 1;
}

/**
 * @param {Map<number, PointerEvent>} pointers
 */
function middleOf(pointers) {
  const all = [...pointers.values()];
  const mean = (/** @type {number[]} */ numbers) => numbers.reduce((sum, one) => sum + one, 0) / all.length;
  return { clientX: mean(all.map((one) => one.clientX)), clientY: mean(all.map((one) => one.clientY)) };
}

/**
 * @param {HTMLElement | null} window
 * @param {number} x
 * @param {number} y
 */
function shift(window, x, y) {
  window?.scrollBy(x, y);
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
 * @param {Omit<Editing, "setDraft">} editing
 */
function useRegionKeys({ image, regions, editing, view, setSelected, onChange }) {
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.metaKey) {
      return;
    }
    const index = regionOf(event);
    if (zoomKey(event.key, view) || (editing && editKey(event, index))) {
      event.preventDefault();
      event.stopPropagation();
    }
  };
  const add = () => {
    if (regions.length >= MOST_REGIONS) return;
    onChange([...regions, boxAround(view.imagePoint(view.middle()), image)]);
    focusRegion(view.drawing, regions.length);
  };
  /** @param {number} index */
  const remove = (index) => {
    onChange(regions.filter((_, place) => place !== index));
    setSelected(-1);
    view.window.current?.focus();
  };
  return { onKeyDown, add, remove };

  /** @param {KeyboardEvent} event @param {number} index @returns {boolean} whether the key means something here */
  function editKey(event, index) {
    const box = regions[index];
    const arrow = ARROWS[event.key];
    if (box && arrow) {
      const step = Math.max(1, Math.round(1 / view.scale)) * (event.shiftKey ? 10 : 1);
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
 * @param {{current: SVGSVGElement | null}} drawing
 * @param {number} index
 */
function focusRegion(drawing, index) {
  requestAnimationFrame(() => {
    const region = drawing.current?.querySelector(`g.draw-region[data-region="${index}"]`);
    /** @type {SVGElement | null | undefined} */ (region)?.focus();
  });
}
