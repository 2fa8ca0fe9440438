/** Zoom and pan of a picture: pure arithmetic. The view says where the plane's corner lies and how large it is. */

/** @typedef {{scale: number, x: number, y: number}} View `x`, `y`: of the plane's corner from its place, in CSS pixels */
/** @typedef {{width: number, height: number}} Size */

/** @type {View} */
export const WHOLE = { scale: 1, x: 0, y: 0 };
const MOST = 16;

/**
 * Return the view scaled by a factor around a point of the plane's place.
 * @param {View} view
 * @param {number} factor
 * @param {{x: number, y: number}} point
 * @param {Size} plane its size at scale 1
 * @returns {View}
 */
export function zoomed(view, factor, point, plane) {
  const scale = Math.min(Math.max(view.scale * factor, 1), MOST);
  const by = scale / view.scale;
  return kept({ scale, x: point.x - (point.x - view.x) * by, y: point.y - (point.y - view.y) * by }, plane);
}

/**
 * @param {View} view
 * @param {number} x
 * @param {number} y
 * @param {Size} plane
 * @returns {View}
 */
export function moved(view, x, y, plane) {
  return kept({ ...view, x: view.x + x, y: view.y + y }, plane);
}

/**
 * Return the view with no edge of the plane inside of its place.
 * @param {View} view
 * @param {Size} plane
 * @returns {View}
 */
function kept(view, plane) {
  const least = { x: plane.width * (1 - view.scale), y: plane.height * (1 - view.scale) };
  const within = (/** @type {number} */ value, /** @type {number} */ low) => Math.min(0, Math.max(low, value));
  return { scale: view.scale, x: within(view.x, least.x), y: within(view.y, least.y) };
}

/**
 * Return the size of a picture that fits a stage.
 * @param {Size} picture
 * @param {Size} stage
 * @returns {Size}
 */
export function fitted(picture, stage) {
  const scale = Math.min(stage.width / picture.width, stage.height / picture.height);
  return { width: picture.width * scale, height: picture.height * scale };
}
