/** Keys that do something: not while somebody types, and not together with Ctrl, Alt or Meta. */
import { useLayoutEffect, useRef } from "./html.js";

/**
 * @param {Record<string, (event: KeyboardEvent) => void>} actions by `KeyboardEvent.key`, letters in lower case
 * @param {{enabled?: boolean}} [options]
 */
export function useKeys(actions, { enabled = true } = {}) {
  const latest = useRef(actions);
  latest.current = actions;
  // As soon as what is shown: a key that is pressed before the first paint would be lost.
  useLayoutEffect(() => {
    if (!enabled) return undefined;
    /** @param {KeyboardEvent} event */
    const listen = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || isTyping(event)) return;
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const action = latest.current[key];
      if (action) {
        event.preventDefault();
        action(event);
      }
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, [enabled]);
}

/** Inputs that take no letters: while a slider or a box has the focus the letters are the page's. */
const WITHOUT_LETTERS = ["range", "checkbox", "radio"];

/** @param {KeyboardEvent} event */
function isTyping({ target, key }) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.closest("dialog")) return true;
  if (target instanceof HTMLInputElement && WITHOUT_LETTERS.includes(target.type)) return !/^[\p{L}\d/]$/u.test(key);
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}
