/** What a part of the page reads while it is shown: once, or again and again. */
import { useEffect, useState } from "./html.js";

/**
 * Return what a call answers, its error, and how to call again; anew when `key` changes.
 * @template T
 * @param {string} key
 * @param {() => Promise<T>} load
 */
export function useLoaded(key, load) {
  const [state, setState] = useState(
    /** @type {{key: string, data: T | null, error: unknown}} */ ({ key: "", data: null, error: null }),
  );
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let isCurrent = true;
    load().then(
      (data) => isCurrent && setState({ key, data, error: null }),
      (error) => isCurrent && setState({ key, data: null, error }),
    );
    return () => {
      isCurrent = false;
    };
  }, [key, turn]);
  const reload = () => setTurn((one) => one + 1);
  return { data: state.key === key ? state.data : null, error: state.error, reload };
}

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
