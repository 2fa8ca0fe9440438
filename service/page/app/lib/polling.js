/** Reading something again and again while a part of the page is shown. */
import { useEffect } from "./html.js";

/**
 * Read at once and then again after each pause; begin anew when an input changes.
 * @param {() => unknown} read
 * @param {number} pause_ms
 * @param {readonly unknown[]} inputs
 */
export function usePolling(read, pause_ms, inputs) {
  useEffect(() => {
    read();
    const timer = setInterval(read, pause_ms);
    return () => clearInterval(timer);
  }, inputs);
}
