/** What is marked on a part: its regions as boxes, specks that lie together as one box, and the hottest place. */

/** @typedef {[number, number, number, number]} Box x, y, width, height in pixels of the upright original */
/** @typedef {{box: Box, peak: number, specks: number}} Mark `specks`: how many the box holds; 0: it is one region */
/** @typedef {{x: number, y: number}} Place */
/**
 * The fields of an inspection that marks are made of.
 * @typedef {object} Inspected
 * @property {number | null} width
 * @property {number | null} height
 * @property {string | null} [verdict]
 * @property {{box: number[], area_px: number, peak: number}[]} [regions]
 * @property {Place | null} [hottest]
 */

/** A region of a smaller share of the image is a speck. */
const SPECK_SHARE = 1e-4;
const LEAST_SPECK_PX = 16;
/** Specks lie together if they are not further apart than this share of the longer side. */
const TOGETHER_SHARE = 0.04;
export const MOST_MARKS = 40;

/**
 * Return at most MOST_MARKS marks, the highest peaks first.
 * @param {Inspected} inspection
 * @returns {Mark[]}
 */
export function regionMarks({ regions = [], width, height }) {
  const [across, down] = [width ?? 0, height ?? 0];
  const least = Math.max(LEAST_SPECK_PX, SPECK_SHARE * across * down);
  const marks = regions.map((one) => ({
    box: /** @type {Box} */ (one.box),
    peak: one.peak,
    specks: one.area_px < least ? 1 : 0,
  }));
  const merged = mergeNear(
    marks.filter((one) => one.specks > 0),
    TOGETHER_SHARE * Math.max(across, down),
  );
  return [...marks.filter((one) => one.specks === 0), ...merged].sort((a, b) => b.peak - a.peak).slice(0, MOST_MARKS);
}

/**
 * Return the place to point at: on review and fail always, also where no region reaches the limit; null on pass.
 * @param {Inspected} inspection
 * @returns {Place | null}
 */
export function hottestPlace({ verdict, hottest, regions = [] }) {
  if (verdict !== "review" && verdict !== "fail") return null;
  if (hottest) return { x: hottest.x, y: hottest.y };
  if (regions.length === 0) return null;
  const [x, y, width, height] = regions.reduce((best, one) => (one.peak > best.peak ? one : best)).box;
  return { x: x + width / 2, y: y + height / 2 };
}

/**
 * Return the marks with those joined that are near one another, until none are.
 * @param {Mark[]} marks
 * @param {number} distance
 */
function mergeNear(marks, distance) {
  /** @type {Mark[]} */
  const groups = [];
  for (const mark of marks) {
    let grown = mark;
    for (let at = groups.findIndex((one) => gap(one.box, grown.box) <= distance); at >= 0; ) {
      grown = joined(groups[at], grown);
      groups.splice(at, 1);
      at = groups.findIndex((one) => gap(one.box, grown.box) <= distance);
    }
    groups.push(grown);
  }
  return groups;
}

/**
 * @param {Box} a
 * @param {Box} b
 * @returns {number} pixels between them along the axis where they are further apart; below 0 if they overlap
 */
function gap(a, b) {
  const across = Math.max(a[0], b[0]) - Math.min(a[0] + a[2], b[0] + b[2]);
  const down = Math.max(a[1], b[1]) - Math.min(a[1] + a[3], b[1] + b[3]);
  return Math.max(across, down);
}

/**
 * @param {Mark} a
 * @param {Mark} b
 * @returns {Mark}
 */
function joined(a, b) {
  const [left, top] = [Math.min(a.box[0], b.box[0]), Math.min(a.box[1], b.box[1])];
  const right = Math.max(a.box[0] + a.box[2], b.box[0] + b.box[2]);
  const bottom = Math.max(a.box[1] + a.box[3], b.box[1] + b.box[3]);
  return { box: [left, top, right - left, bottom - top], peak: Math.max(a.peak, b.peak), specks: a.specks + b.specks };
}
