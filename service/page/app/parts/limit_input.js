/** The number of a limit, to type: what is typed stays as it is until the field is left. */
import { html, useState } from "../lib/html.js";
import { shortValue } from "../lib/limits.js";

/**
 * While a number is typed it must not be written anew: "1.0" would become 1, and the next digit make 15 of it.
 * @param {{value: number | null, isDisabled: boolean, label?: string, onMove: (value: number) => void}} props
 *   `value` null: the field is empty; `label`: where no text stands beside it
 */
export function LimitInput({ value, isDisabled, label, onMove }) {
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const shown = value === null ? "" : shortValue(value);
  /** @param {Event} event */
  const type = (event) => {
    const { value: text, valueAsNumber: number } = /** @type {HTMLInputElement} */ (event.currentTarget);
    setTyped(text);
    if (Number.isFinite(number)) onMove(number);
  };
  return html`<input type="number" step="any" inputmode="decimal" aria-label=${label} value=${typed ?? shown} disabled=${isDisabled}
    onInput=${type} onBlur=${() => setTyped(null)} />`;
}
