/** Wheel, pointer, pinch and keys on a picture: they change its view. */
import { useCallback, useLayoutEffect, useRef, useState } from "./html.js";
import { moved, WHOLE, zoomed } from "./zoom.js";

/** @typedef {import("./zoom.js").View} View */
/** @typedef {import("./zoom.js").Size} Size */
/** @typedef {{x: number, y: number}} Point */

const STEP = 1.25;
const PAN_PX = 60;

/**
 * Return the view of a picture, and what to put on the elements.
 * @param {Size} plane its size at scale 1, in CSS pixels
 * @param {(from: Point, to: Point, isOver: boolean) => void} [onDrag] if given, one pointer draws instead of moving the
 *   picture; points are of the plane at scale 1
 */
export function useGestures(plane, onDrag) {
  const stage = useRef(/** @type {HTMLElement | null} */ (null));
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const pointers = useRef(/** @type {Map<number, Point>} */ (new Map()));
  const dragFrom = useRef(/** @type {Point | null} */ (null));
  const [view, setView] = useState(WHOLE);
  const latest = useRef({ plane, view, onDrag });
  latest.current = { plane, view, onDrag };

  const pointOf = useCallback((/** @type {{clientX: number, clientY: number}} */ event) => {
    const box = /** @type {HTMLElement} */ (place.current).getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }, []);
  const zoomBy = useCallback((/** @type {number} */ factor, /** @type {Point | null} */ at = null) => {
    const size = latest.current.plane;
    setView((before) => zoomed(before, factor, at ?? { x: size.width / 2, y: size.height / 2 }, size));
  }, []);
  const reset = useCallback(() => setView(WHOLE), []);

  useLayoutEffect(() => {
    const element = /** @type {HTMLElement} */ (stage.current);
    /** @param {WheelEvent} event */
    const onWheel = (event) => {
      event.preventDefault();
      zoomBy(STEP ** Math.sign(-event.deltaY), pointOf(event));
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, []);

  /** @param {PointerEvent} event */
  const onPointerDown = (event) => {
    if (event.button !== 0) return;
    pointers.current.set(event.pointerId, pointOf(event));
    if (latest.current.onDrag && pointers.current.size === 1) dragFrom.current = inPlane(pointOf(event), view);
    stage.current?.setPointerCapture(event.pointerId);
  };
  /** @param {PointerEvent} event */
  const onPointerMove = (event) => {
    const before = pointers.current.get(event.pointerId);
    if (!before) return;
    const now = pointOf(event);
    if (dragFrom.current && pointers.current.size === 1) {
      latest.current.onDrag?.(dragFrom.current, inPlane(now, latest.current.view), false);
    } else if (pointers.current.size === 1) {
      setView((one) => moved(one, now.x - before.x, now.y - before.y, plane));
    } else {
      pinch(event.pointerId, before, now);
    }
    pointers.current.set(event.pointerId, now);
  };
  /**
   * @param {number} id
   * @param {Point} before
   * @param {Point} now
   */
  const pinch = (id, before, now) => {
    dragFrom.current = null;
    const other = [...pointers.current].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
    const factor = distance(now, other) / Math.max(1, distance(before, other));
    setView((one) => moved(zoomed(one, factor, middle, plane), (now.x - before.x) / 2, (now.y - before.y) / 2, plane));
  };
  /** @param {PointerEvent} event */
  const onPointerUp = (event) => {
    if (pointers.current.delete(event.pointerId) && dragFrom.current) {
      const isOver = event.type === "pointerup";
      if (isOver) latest.current.onDrag?.(dragFrom.current, inPlane(pointOf(event), view), true);
      dragFrom.current = null;
    }
  };
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const action = keyAction(event.key);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    if ("zoom" in action) return action.zoom === 0 ? reset() : zoomBy(action.zoom);
    setView((one) => moved(one, action.x, action.y, plane));
  };
  /** @param {string} key */
  const keyAction = (key) => {
    if (key === "+" || key === "=") return { zoom: STEP };
    if (key === "-") return { zoom: 1 / STEP };
    if (key === "0") return { zoom: 0 };
    if (view.scale === 1) return null; // the arrows are the page's
    return { ArrowLeft: { x: PAN_PX, y: 0 }, ArrowRight: { x: -PAN_PX, y: 0 }, ...UP_DOWN }[key] ?? null;
  };
  return {
    view,
    zoomBy,
    reset,
    stage,
    place,
    handlers: { onPointerDown, onPointerMove, onPointerUp, onPointerCancel: onPointerUp, onKeyDown },
  };
}

const UP_DOWN = { ArrowUp: { x: 0, y: PAN_PX }, ArrowDown: { x: 0, y: -PAN_PX } };

/**
 * @param {Point} point of the plane's place
 * @param {View} view
 */
function inPlane(point, view) {
  return { x: (point.x - view.x) / view.scale, y: (point.y - view.y) / view.scale };
}

/**
 * @param {Point} a
 * @param {Point} b
 */
function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
