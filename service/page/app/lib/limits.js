/** Numbers of limits: steps to move them by, ticks of an axis, and what an effect says in words. */
import { formatNumber, t } from "./texts.js";

/** @typedef {{from: number, to: number}} Range */

/**
 * Return the largest of 1, 2, 5, 10, 20 … (times any power of ten) that is at most `value`.
 * @param {number} value above 0
 */
export function roundStep(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([5, 2, 1].find((one) => one * power <= value * 1.000001) ?? 1);
}

/**
 * Return a value as people would write it: rounded to the step.
 * @param {number} value
 * @param {number} step
 */
export function roundTo(value, step) {
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return Number((Math.round(value / step) * step).toFixed(Math.min(digits, 12)));
}

/**
 * Return round values between two, about as many as asked for.
 * @param {number} low
 * @param {number} high
 * @param {number} count
 */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const step = roundStep(((high - low) / Math.max(count, 1)) * 1.5);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, place) => roundTo((first + place) * step, step));
}

/** Return a number without the digits that say nothing, for a field. @param {number} value */
export function shortValue(value) {
  return Number(value.toPrecision(5));
}

/** @param {number} value a limit or measure, with as many digits as say something */
export function formatValue(value) {
  return formatNumber(value, { maximumSignificantDigits: 4 });
}

/**
 * Return how many a day and a shift a change is about, as the end of a sentence; "" where that is not known or nothing
 * changes.
 * @param {{changed: number, per_day: number | null, per_shift: number | null}} effect
 */
export function expectedText({ changed, per_day, per_shift }) {
  if (!changed || per_day === null) return "";
  if (per_day < 1) return t("product.less_than_one_a_day");
  const shift = formatNumber(per_shift, { maximumFractionDigits: (per_shift ?? 0) < 1 ? 1 : 0 });
  return t("product.a_day", { n: Math.round(per_day), shift });
}
