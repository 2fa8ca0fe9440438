/** What the product pages read and send, and the answers that a person must understand. */
import { api, call, Problem, withQuery } from "../lib/api.js";
import { useEffect, useState } from "../lib/html.js";
import { askPerson } from "../lib/session.js";
import { t } from "../lib/texts.js";
import { confirmChange } from "./dialog.js";
import { problemText } from "./problem.js";

const PREVIEW_AFTER_MS = 150;
/** Inspections that a change is tried on while somebody drags. */
export const TRIED = 1000;

/** @param {string} product @param {string} [rest] */
export function productPath(product, rest = "") {
  return `/v1/products/${encodeURIComponent(product)}${rest}`;
}

/**
 * Return what a change would do, asked for shortly after the last move; null as long as nothing is changed.
 * @param {string} path of the call, whose `preview` shows the effect
 * @param {Record<string, unknown> | null} body null: there is nothing to show
 */
export function usePreview(path, body) {
  const [shown, setShown] = useState(
    /** @type {{wanted: string, data: any, error: unknown}} */ ({ wanted: "", data: null, error: null }),
  );
  const wanted = body ? JSON.stringify(body) : "";
  useEffect(() => {
    if (!wanted) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      call("PATCH", withQuery(path, { preview: true, last: TRIED }), JSON.parse(wanted), { signal: stop.signal }).then(
        (answer) => setShown({ wanted, data: answer.data, error: null }),
        (error) => {
          if (error instanceof Problem) setShown({ wanted, data: null, error });
        },
      );
    }, PREVIEW_AFTER_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [path, wanted]);
  if (!wanted) return { data: null, error: null, isPending: false };
  return { data: shown.data, error: shown.wanted === wanted ? shown.error : null, isPending: shown.wanted !== wanted };
}

/**
 * Ask, and make a change of a product if it is still at this revision; of its evaluations at any, because they make none.
 * @param {object} change
 * @param {{title: string, text?: any, action: string, isDangerous?: boolean}} change.question
 * @param {"PUT" | "PATCH" | "POST" | "DELETE"} change.method
 * @param {string} change.path
 * @param {Record<string, unknown> | null} change.body null: the call takes none
 * @param {number} change.revision
 * @returns {Promise<boolean>} whether it was made; throws Problem if it was refused
 */
export async function changeProduct({ question, method, path, body, revision }) {
  if (!(await confirmChange(question))) return false;
  const by = await askPerson();
  if (by === null) return false;
  if (body === null) await api.send(method, withQuery(path, { by }));
  else await api.send(method, path, { ...body, by }, { headers: { "If-Match": `"${revision}"` } });
  return true;
}

/** Whether a change was refused because somebody else made one since it was read. @param {unknown} error */
export function isOutdated(error) {
  return error instanceof Problem && (error.status === 412 || error.type.endsWith(":state-changed"));
}

/** Return what a refused change means to the person who made it. @param {unknown} error */
export function refusalText(error) {
  return isOutdated(error) ? t("product.changed_meanwhile") : problemText(error);
}
