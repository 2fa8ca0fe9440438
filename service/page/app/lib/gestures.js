/** A picture fitted into its stage, and zoomed there: by wheel, pointer, two fingers and keys. */
import { useCallback, useLayoutEffect, useRef, useState } from "./html.js";
import { fitted, moved, WHOLE, zoomed } from "./zoom.js";

/** @typedef {import("./zoom.js").View} View */
/** @typedef {import("./zoom.js").Size} Size */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {ReturnType<typeof useZoom>} Zoom */

/**
 * What one pointer does instead of moving the picture; points are in pixels of the picture.
 * @typedef {object} Drag
 * @property {(event: PointerEvent, at: Point) => boolean} begin whether it does something here
 * @property {(event: PointerEvent, at: Point) => void} move
 * @property {(at: Point | null) => void} end null: it is given up, as when a second finger comes
 */

const KEY_STEP = 1.25;
const PAN_PX = 60;
/** A touchpad's pinch comes as a wheel that turns by so many pixels until the picture is twice as large. */
const PINCH_PX = 100;

/**
 * Return the view of a picture, and what to put on the elements of its stage.
 * @param {Size} picture
 * @param {Drag} [drag]
 */
export function useZoom(picture, drag) {
  const stage = useRef(/** @type {HTMLElement | null} */ (null));
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const plane = fitted(picture, useElementSize(stage));
  const [view, setView] = useState(WHOLE);
  /** Pixels of the screen per pixel of the picture. */
  const scale = (view.scale * plane.width) / (picture.width || 1) || 1;
  const latest = useRef({ plane, view });
  latest.current = { plane, view };

  const pointOf = useCallback((/** @type {{clientX: number, clientY: number}} */ event) => {
    const box = /** @type {HTMLElement} */ (place.current).getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }, []);
  const zoomBy = useCallback((/** @type {number} */ factor, /** @type {Point | null} */ at = null) => {
    const size = latest.current.plane;
    setView((before) => zoomed(before, factor, at ?? { x: size.width / 2, y: size.height / 2 }, size));
  }, []);
  const moveBy = useCallback((/** @type {number} */ x, /** @type {number} */ y) => {
    setView((before) => moved(before, x, y, latest.current.plane));
  }, []);
  const reset = useCallback(() => setView(WHOLE), []);
  useListeners(stage, (event) => {
    const isPinch = event.ctrlKey;
    const factor = isPinch ? 2 ** (-event.deltaY / PINCH_PX) : KEY_STEP ** Math.sign(-event.deltaY);
    zoomBy(factor, pointOf(event));
  });
  const inPicture = (/** @type {Point} */ at) => ({ x: (at.x - view.x) / scale, y: (at.y - view.y) / scale });
  const pointers = usePointers({ pointOf, zoomBy, moveBy, inPicture, drag });
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const action = keyAction(event.key, view.scale > 1);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    if ("by" in action) moveBy(action.by.x, action.by.y);
    else if (action.zoom === 0) reset();
    else zoomBy(action.zoom);
  };
  /** Return the middle of what is seen, in pixels of the picture. */
  const middle = () => inPicture({ x: plane.width / 2, y: plane.height / 2 });
  return { view, plane, scale, zoomBy, reset, stage, place, middle, handlers: { ...pointers, onKeyDown } };
}

/**
 * Return the pointer events of the stage: one pointer moves the picture, or drags; two zoom and move it.
 * @param {{
 *   pointOf: (event: PointerEvent) => Point, zoomBy: (factor: number, at: Point) => void,
 *   moveBy: (x: number, y: number) => void, inPicture: (at: Point) => Point, drag?: Drag,
 * }} picture points are of the picture's place but for those of `inPicture`
 */
function usePointers({ pointOf, zoomBy, moveBy, inPicture, drag }) {
  const down = useRef(/** @type {Map<number, Point>} */ (new Map()));
  const isDragging = useRef(false);

  /** @param {PointerEvent} event */
  const onPointerDown = (event) => {
    if (event.button !== 0) return;
    const at = pointOf(event);
    down.current.set(event.pointerId, at);
    if (down.current.size === 1) isDragging.current = drag?.begin(event, inPicture(at)) ?? false;
    else endDrag(null);
    /** @type {Element} */ (event.currentTarget).setPointerCapture(event.pointerId);
  };
  /** @param {PointerEvent} event */
  const onPointerMove = (event) => {
    const before = down.current.get(event.pointerId);
    if (!before) return;
    const now = pointOf(event);
    const other = [...down.current].find(([id]) => id !== event.pointerId)?.[1];
    down.current.set(event.pointerId, now);
    if (other) {
      zoomBy(distance(now, other) / Math.max(1, distance(before, other)), middleOf(now, other));
      moveBy((now.x - before.x) / 2, (now.y - before.y) / 2);
    } else if (isDragging.current) {
      drag?.move(event, inPicture(now));
    } else {
      moveBy(now.x - before.x, now.y - before.y);
    }
  };
  /** @param {PointerEvent} event */
  const onPointerUp = (event) => {
    const isOver = down.current.delete(event.pointerId) && event.type === "pointerup";
    endDrag(isOver ? inPicture(pointOf(event)) : null);
  };
  /** @param {Point | null} at */
  const endDrag = (at) => {
    if (isDragging.current) drag?.end(at);
    isDragging.current = false;
  };
  return { onPointerDown, onPointerMove, onPointerUp, onPointerCancel: onPointerUp };
}

/**
 * Listen to what the browser would take for itself: the wheel, and two fingers. One finger scrolls the page.
 * @param {{current: HTMLElement | null}} stage
 * @param {(event: WheelEvent) => void} onWheel
 */
function useListeners(stage, onWheel) {
  const latest = useRef(onWheel);
  latest.current = onWheel;
  useLayoutEffect(() => {
    const element = /** @type {HTMLElement} */ (stage.current);
    const turned = (/** @type {WheelEvent} */ event) => {
      event.preventDefault();
      latest.current(event);
    };
    const touched = (/** @type {TouchEvent} */ event) => {
      if (event.touches.length > 1 && event.cancelable) event.preventDefault();
    };
    element.addEventListener("wheel", turned, { passive: false });
    element.addEventListener("touchstart", touched, { passive: false });
    element.addEventListener("touchmove", touched, { passive: false });
    return () => {
      element.removeEventListener("wheel", turned);
      element.removeEventListener("touchstart", touched);
      element.removeEventListener("touchmove", touched);
    };
  }, []);
}

/** @type {Record<string, Point>} */
const ARROWS = {
  ArrowLeft: { x: PAN_PX, y: 0 },
  ArrowRight: { x: -PAN_PX, y: 0 },
  ArrowUp: { x: 0, y: PAN_PX },
  ArrowDown: { x: 0, y: -PAN_PX },
};

/**
 * @param {string} key
 * @param {boolean} isZoomed else the arrows are the page's
 * @returns {{zoom: number} | {by: Point} | null}
 */
function keyAction(key, isZoomed) {
  if (key === "+" || key === "=") return { zoom: KEY_STEP };
  if (key === "-") return { zoom: 1 / KEY_STEP };
  if (key === "0") return { zoom: 0 };
  return isZoomed && key in ARROWS ? { by: ARROWS[key] } : null;
}

/** @param {{current: HTMLElement | null}} element @returns {Size} */
function useElementSize(element) {
  const [size, setSize] = useState({ width: 400, height: 300 });
  useLayoutEffect(() => {
    const measured = /** @type {HTMLElement} */ (element.current);
    let before = { width: 0, height: 0 };
    const measure = () => {
      const { clientWidth: width, clientHeight: height } = measured;
      if (width === before.width && height === before.height) return;
      before = { width, height };
      setSize(before);
    };
    const observer = new ResizeObserver(measure);
    observer.observe(measured);
    measure();
    return () => observer.disconnect();
  }, []);
  return size;
}

/**
 * @param {Point} a
 * @param {Point} b
 */
function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

/**
 * @param {Point} a
 * @param {Point} b
 */
function middleOf(a, b) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}
