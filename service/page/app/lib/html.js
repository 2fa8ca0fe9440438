/** Preact and HTM under one roof: what every component imports. */
import htm from "../../vendor/htm.module.js";
import { h } from "../../vendor/preact.module.js";

/** Markup as a tagged template. Values become text nodes and properties: never markup. */
export const html = /** @type {(strings: TemplateStringsArray, ...values: any[]) => any} */ (htm.bind(h));
export {
  useCallback,
  useEffect,
  useErrorBoundary,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "../../vendor/hooks.module.js";
export { Fragment, render } from "../../vendor/preact.module.js";
