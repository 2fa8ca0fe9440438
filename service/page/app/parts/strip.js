/** The last parts as thumbnails, newest first, each with its verdict as shape and colour. */
import { artifactUrl } from "../lib/api.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { formatTime, t } from "../lib/texts.js";
import { askForTurn } from "../lib/turns.js";
import { VerdictShape } from "./verdict.js";

/** @typedef {import("../lib/line_log.js").Entry} Entry */

/** @param {{entries: Entry[], shownId: string | null, isPinned: boolean, onPin: (id: string) => void}} props */
export function Strip({ entries, shownId, isPinned, onPin }) {
  return html`<ol class="strip" aria-label=${t("line.last_parts")}>
    ${entries.map(
      (entry) => html`<li key=${entry.id}>
        <${Thumbnail} entry=${entry} isShown=${entry.id === shownId} isPinned=${isPinned} onPin=${onPin} />
      </li>`,
    )}
  </ol>`;
}

/** @param {{entry: Entry, isShown: boolean, isPinned: boolean, onPin: (id: string) => void}} props */
function Thumbnail({ entry, isShown, isPinned, onPin }) {
  const { hasTurn, endTurn } = useTurn();
  const button = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (isShown && isPinned) button.current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [isShown, isPinned]);
  const verdict = entry.verdict ?? "none";
  const name = useMemo(() => {
    const values = { verdict: t(`verdict.${verdict}`), serial: entry.serial ?? "–", time: formatTime(entry.at) };
    return t("line.thumbnail", values);
  }, [entry]);
  return html`<button type="button" ref=${button} class=${`thumb verdict-${verdict}`} aria-pressed=${isShown && isPinned}
    aria-current=${isShown ? "true" : undefined} aria-label=${name} title=${name} onClick=${() => onPin(entry.id)}>
    ${
      hasTurn
        ? html`<img alt="" src=${artifactUrl(entry.id, "thumbnail.jpg")} onLoad=${endTurn} onError=${endTurn} />`
        : html`<span class="thumb-empty"></span>`
    }
    <${VerdictShape} verdict=${entry.verdict} />
  </button>`;
}

function useTurn() {
  const [hasTurn, setHasTurn] = useState(false);
  const end = useRef(() => {});
  useEffect(() => {
    end.current = askForTurn(() => setHasTurn(true));
    return () => end.current();
  }, []);
  return { hasTurn, endTurn: () => end.current() };
}
