/**
 * Rectangles in whole pixels of an image: between two points, moved, resized, always inside the image.
 */

/**
 * A rectangle as x, y, width, height.
 * @typedef {[number, number, number, number]} Box
 */

/**
 * @typedef {{x: number, y: number}} Point
 */

/**
 * @typedef {{width: number, height: number}} Size
 */

/**
 * Which sides of a rectangle a handle moves: -1 left or upper, 1 right or lower, 0 none.
 * @typedef {{x: -1 | 0 | 1, y: -1 | 0 | 1}} Handle
 */

/** The eight handles by name: the corners, then the middles of the sides.
 * @type {Readonly<Record<string, Handle>>} */
export const HANDLES = Object.freeze({
  nw: { x: -1, y: -1 },
  ne: { x: 1, y: -1 },
  se: { x: 1, y: 1 },
  sw: { x: -1, y: 1 },
  n: { x: 0, y: -1 },
  e: { x: 1, y: 0 },
  s: { x: 0, y: 1 },
  w: { x: -1, y: 0 },
});

/**
 * Return the number, or the limit that it is beyond.
 * @param {number} number
 * @param {number} least
 * @param {number} most
 */
export function clamp(number, least, most) {
  return Math.min(Math.max(number, least), most);
}

/**
 * Return the rectangle between two points, in any order, cut at the image's edges; at least one pixel.
 * @param {Point} a
 * @param {Point} b
 * @param {Size} image
 * @returns {Box}
 */
export function boxBetween(a, b, image) {
  const [left, width] = span(a.x, b.x, image.width);
  const [top, height] = span(a.y, b.y, image.height);
  return [left, top, width, height];
}

/**
 * Return the first whole pixel between two places on one axis, and how many there are.
 * @param {number} a
 * @param {number} b
 * @param {number} length
 * @returns {[number, number]}
 */
function span(a, b, length) {
  const first = clamp(Math.round(Math.min(a, b)), 0, length - 1);
  const end = clamp(Math.round(Math.max(a, b)), first + 1, length);
  return [first, end - first];
}

/**
 * Return the rectangle moved, of the same size, not beyond the image's edges.
 * @param {Box} box
 * @param {Point} by
 * @param {Size} image
 * @returns {Box}
 */
export function moveBox([x, y, width, height], by, image) {
  const left = clamp(Math.round(x + by.x), 0, image.width - width);
  const top = clamp(Math.round(y + by.y), 0, image.height - height);
  return [left, top, width, height];
}

/**
 * Return the rectangle with the sides of a handle moved. A side that passes the opposite one takes its place.
 * @param {Box} box
 * @param {Handle} handle
 * @param {Point} by
 * @param {Size} image
 * @returns {Box}
 */
export function resizeBox([x, y, width, height], handle, by, image) {
  const upperLeft = { x: x + (handle.x < 0 ? by.x : 0), y: y + (handle.y < 0 ? by.y : 0) };
  const lowerRight = { x: x + width + (handle.x > 0 ? by.x : 0), y: y + height + (handle.y > 0 ? by.y : 0) };
  return boxBetween(upperLeft, lowerRight, image);
}

/**
 * Return a rectangle of a fifth of the image's shorter side around a point, for those who draw with the keyboard.
 * @param {Point} centre
 * @param {Size} image
 * @returns {Box}
 */
export function boxAround(centre, image) {
  const side = Math.max(1, Math.round(Math.min(image.width, image.height) / 5));
  return moveBox([0, 0, side, side], { x: centre.x - side / 2, y: centre.y - side / 2 }, image);
}
