/** A verdict as colour, shape and word. */
import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** Shapes in a box of 24: a disc, a triangle, a cross in an octagon, a ring. They differ without colour. */
const SHAPES = {
  pass: "M12 1a11 11 0 1 0 0 22 11 11 0 0 0 0-22Zm-2 16-5-5 2-2 3 3 7-7 2 2Z",
  review: "M12 1 23.5 22H.5ZM11 9v6h2V9Zm0 8v2h2v-2Z",
  fail: "M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.600V7.4Zm.1 4.500L5.500 7.500 10 12l-4.500 4.500 2 2L12 14l4.500 4.500 2-2L14 12l4.500-4.500-2-2L12 10Z",
  none: "M12 1a11 11 0 1 0 0 22 11 11 0 0 0 0-22Zm0 3a8 8 0 1 1 0 16 8 8 0 0 1 0-16Z",
};

/** @typedef {"pass" | "review" | "fail" | null | undefined} VerdictName */

/** @param {{verdict: VerdictName}} props */
export function VerdictShape({ verdict }) {
  return html`<svg class="verdict-shape" viewBox="0 0 24 24" aria-hidden="true">
    <path fill="currentColor" fill-rule="evenodd" d=${SHAPES[verdict ?? "none"]} />
  </svg>`;
}

/**
 * @param {{verdict: VerdictName, size?: "small" | "large"}} props `large`: to be read from two metres
 */
export function Verdict({ verdict, size = "small" }) {
  const name = verdict ?? "none";
  return html`<span class=${`verdict verdict-${name} verdict-${size}`}>
    <${VerdictShape} verdict=${verdict} /> <span>${t(`verdict.${name}`)}</span>
  </span>`;
}
