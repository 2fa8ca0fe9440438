/** Pictures of inspections, which may be drawn only when somebody asks. */
import { artifactUrl } from "./api.js";
import { useEffect, useState } from "./html.js";

/** @typedef {"none" | "loading" | "drawing" | "ready" | "gone" | "away"} PictureState */
/** @typedef {{url: string, state: PictureState}} Picture */

const NONE = { key: "", url: "", state: /** @type {PictureState} */ ("none") };
const AWAY_MS = 3_000;
const LONGEST_PAUSE_S = 10;

/**
 * Return a picture, asked for again while the service still draws it (202) or is away. The object URL ends with it.
 * @param {string} id of the inspection
 * @param {string} name such as reconstruction.png
 * @param {boolean} isWanted false: it is not asked for
 * @returns {Picture}
 */
export function usePicture(id, name, isWanted) {
  const [picture, setPicture] = useState(NONE);
  const key = `${id}/${name}`;
  useEffect(() => {
    if (!isWanted) return undefined;
    const aborter = new AbortController();
    let url = "";
    let timer = 0;
    const ask = async () => {
      const found = await fetchPicture(id, name, aborter.signal);
      if (aborter.signal.aborted) return;
      if (found.blob) url = URL.createObjectURL(found.blob);
      setPicture({ key, url, state: found.state });
      if (found.againMs > 0) timer = setTimeout(ask, found.againMs);
    };
    ask();
    return () => {
      aborter.abort();
      clearTimeout(timer);
      if (url) URL.revokeObjectURL(url);
      setPicture(NONE);
    };
  }, [id, name, isWanted]);
  if (!isWanted) return NONE;
  return picture.key === key ? picture : { url: "", state: "loading" }; // never that of the part before
}

/**
 * @param {string} id
 * @param {string} name
 * @param {AbortSignal} signal
 * @returns {Promise<{state: PictureState, blob: Blob | null, againMs: number}>} `againMs`: 0: there is no use in asking again
 */
async function fetchPicture(id, name, signal) {
  try {
    const answer = await fetch(artifactUrl(id, name), { signal, credentials: "same-origin" });
    if (answer.status === 202) return { state: "drawing", blob: null, againMs: 1000 * retryAfter(answer) };
    if (answer.ok) return { state: "ready", blob: await answer.blob(), againMs: 0 };
    const isAway = answer.status === 429 || answer.status >= 500;
    return { state: isAway ? "away" : "gone", blob: null, againMs: isAway ? AWAY_MS : 0 };
  } catch {
    return { state: "away", blob: null, againMs: AWAY_MS };
  }
}

/** @param {Response} answer */
function retryAfter(answer) {
  return Math.min(Math.max(Number(answer.headers.get("Retry-After")) || 1, 1), LONGEST_PAUSE_S);
}
