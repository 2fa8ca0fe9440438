/** The page at a line: the verdict of the part that just came, as large as the screen allows. */
import { html, useCallback, useEffect, useState } from "../lib/html.js";
import { useKeys } from "../lib/keys.js";
import { useInspection, useLive } from "../lib/live.js";
import { Link, navigate } from "../lib/router.js";
import { soundFail, useFullScreen, useSound, useWakeLock } from "../lib/screen.js";
import { hasScope, useSession } from "../lib/session.js";
import { formatNumber, formatTime, t } from "../lib/texts.js";
import { HoldControl } from "../parts/hold.js";
import { LimitCheckLink } from "../parts/limit_check_link.js";
import { formatScore, holdText, reasonText } from "../parts/reason.js";
import { ScoreBar } from "../parts/score_bar.js";
import { Strip } from "../parts/strip.js";
import { VerdictShape } from "../parts/verdict.js";
import { Viewer } from "../parts/viewer.js";

/** @typedef {import("../lib/line_log.js").Entry} Entry */
/** @typedef {import("../lib/live.js").Liveness} Liveness */

/** A pinned part gives way to the live ones when nobody has touched the page for so long. */
const PINNED_MS = 120_000;

/** @param {{params: {station?: string}}} props */
export default function LinePage({ params }) {
  const { station } = params;
  const session = useSession();
  const onAdded = useCallback((/** @type {Entry[]} */ added) => {
    if (added.some((one) => one.verdict === "fail")) soundFail();
  }, []);
  const { entries, liveness, stations } = useLive(station, onAdded);
  const { pinned, pin, unpin, step } = usePinned(entries);
  const shown = pinned ?? entries[0] ?? null;
  const inspection = useInspection(shown);
  const held = stations.filter((one) => one.hold && (!station || one.station === station));
  const sound = useSound();
  const screen = useFullScreen();
  useWakeLock();
  useKeys({
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Escape: unpin,
    s: sound.toggle,
    f: screen.toggle,
  });
  const isOld = liveness.isLive === false && !pinned;
  const classes = ["line", held.length > 0 && "is-held", isOld && "is-old", pinned && "is-pinned"]
    .filter(Boolean)
    .join(" ");
  return html`<main class=${classes} data-live=${String(liveness.isLive)}>
    <h1 class="visually-hidden">${station ? t("line.of_station", { station }) : t("line.title")}</h1>
    <${Toolbar} station=${station} stations=${stations} entries=${entries} sound=${sound} screen=${screen}>
      ${pinned && html`<${PinnedNote} liveness=${liveness} unpin=${unpin} />`}
      ${station && html`<${HoldControl} station=${station} revision=${stations} />`}
    <//>
    <div class="line-banners">
      ${session?.signed_in && !hasScope("read") && html`<p class="note note-problem">${t("line.needs_read")}</p>`}
      ${(station ? [] : held).map(
        (one) => html`<p key=${one.station} class="banner" role="alert">
          <span><strong>${t("line.held", { station: one.station })}</strong> ${holdTexts(one)}</span>
          <${Link} class="button" href=${`/line/${encodeURIComponent(one.station)}`}>${t("line.to_station")}<//>
        </p>`,
      )}
    </div>
    <section class="line-verdict" aria-live="polite" data-inspection=${isOld ? "" : (shown?.id ?? "")}>
      ${isOld ? html`<${NotLive} liveness=${liveness} />` : html`<${BigVerdict} entry=${shown} />`}
    </section>
    <section class="line-facts" aria-label=${t("line.facts")}>
      ${shown ? html`<${Facts} entry=${shown} isOld=${isOld} />` : html`<p class="reason">${t("line.nothing_yet")}</p>`}
    </section>
    <section class="line-picture" aria-label=${t("line.picture")}><${Viewer} inspection=${inspection} /></section>
    <${Strip} entries=${entries} shownId=${shown?.id ?? null} isPinned=${pinned !== null} onPin=${pin} />
  </main>`;
}

/** Why a station is on hold: a person's words, a failed check, or both. @param {any} station */
function holdTexts({ hold, held_sample, check_hold }) {
  const texts = [holdText(hold, held_sample), check_hold && holdText(check_hold.reason, check_hold.sample)];
  return texts.filter(Boolean).join(" · ");
}

/**
 * Return the part that is looked at instead of the live one.
 * @param {Entry[]} entries
 */
function usePinned(entries) {
  const [kept, setKept] = useState(/** @type {Entry | null} */ (null));
  const pinned = kept && (entries.find((one) => one.id === kept.id) ?? kept);
  const unpin = useCallback(() => setKept(null), []);
  useEffect(() => {
    if (!kept) return undefined;
    let timer = setTimeout(unpin, PINNED_MS);
    const again = () => {
      clearTimeout(timer);
      timer = setTimeout(unpin, PINNED_MS);
    };
    addEventListener("pointermove", again);
    addEventListener("keydown", again);
    return () => {
      clearTimeout(timer);
      removeEventListener("pointermove", again);
      removeEventListener("keydown", again);
    };
  }, [kept]);
  const pin = (/** @type {string} */ id) => setKept(entries.find((one) => one.id === id) ?? null);
  const step = (/** @type {number} */ by) => {
    const at = kept ? entries.findIndex((one) => one.id === kept.id) : 0;
    const next = entries[at + by];
    if (next) setKept(next);
    else if (kept && by < 0) unpin();
  };
  return { pinned, pin, unpin, step };
}

/** @param {{station?: string, stations: any[], entries: Entry[], sound: any, screen: any, children?: any}} props */
function Toolbar({ station, stations, entries, sound, screen, children }) {
  const names = new Set([...stations.map((one) => one.station), ...entries.map((one) => one.station), station]);
  const known = [...names].filter((one) => typeof one === "string").sort();
  /** @param {Event} event */
  const choose = (event) => {
    const chosen = /** @type {HTMLSelectElement} */ (event.currentTarget).value;
    navigate(chosen ? `/line/${encodeURIComponent(chosen)}` : "/line");
  };
  return html`<div class="line-toolbar">
    <label>${t("line.station")}
      <select id="line-station" value=${station ?? ""} onChange=${choose}>
        <option value="">${t("line.all_stations")}</option>
        ${known.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
    </label>
    ${children}
    <div class="line-tools">
      ${station && html`<${LimitCheckLink} station=${station} stations=${stations} />`}
      <button type="button" aria-pressed=${sound.state !== "off"} onClick=${sound.toggle}>${t(`line.sound_${sound.state}`)} <kbd>S</kbd></button>
      ${screen.isPossible && html`<button type="button" onClick=${screen.toggle}>${t(screen.isFull ? "line.leave_full" : "line.full_screen")} <kbd>F</kbd></button>`}
    </div>
  </div>`;
}

/** @param {{liveness: Liveness, unpin: () => void}} props */
function PinnedNote({ liveness, unpin }) {
  return html`<p class="pinned" role="status">
    <strong>${liveness.isLive === false ? notLiveText(liveness) : t("line.pinned")}</strong>
    <button type="button" onClick=${unpin}>${t("line.back")} <kbd>Esc</kbd></button>
  </p>`;
}

/** @param {{liveness: Liveness}} props */
function NotLive({ liveness }) {
  return html`<div class="not-live" role="alert">
    <strong>${notLiveText(liveness)}</strong>
    <span>${t("line.not_live_hint")}</span>
  </div>`;
}

/** @param {Liveness} liveness */
function notLiveText(liveness) {
  return liveness.since ? t("line.not_live", { time: formatTime(liveness.since) }) : t("line.not_live_yet");
}

/** @param {{entry: Entry | null}} props */
function BigVerdict({ entry }) {
  if (!entry) return html`<div class="big big-empty"><span class="big-word">${t("line.waiting")}</span></div>`;
  const name = entry.verdict ?? "none";
  const words = t(`verdict.${name}`).split(" ");
  return html`<div class=${`big big-${name}`} style=${{ "--ems": Math.max(...words.map(widthInEms)), "--lines": words.length }}>
    <${VerdictShape} verdict=${entry.verdict} />
    <strong class="big-word">${words.map((word, at) => html`<span key=${at}>${at ? " " : ""}${word}</span>`)}</strong>
  </div>`;
}

/** @param {string} word in bold capitals, or in Chinese */
function widthInEms(word) {
  return [...word].reduce((sum, letter) => sum + (letter.charCodeAt(0) > 0x2e80 ? 1.02 : 0.74), 0);
}

/** @param {{entry: Entry, isOld: boolean}} props */
function Facts({ entry, isOld }) {
  const facts = [
    ["serial", entry.serial],
    ["station", entry.station],
    ["product", entry.product],
    ["lot", entry.lot],
    ["view", entry.view],
    ["step", entry.denoising_step === null ? null : formatNumber(entry.denoising_step)],
    ["time", formatTime(entry.at)],
    ["took", tookText(entry)],
  ].filter(([, value]) => value);
  return html`<div>
    ${isOld && html`<p class="reason">${t("line.last_was", { verdict: t(`verdict.${entry.verdict ?? "none"}`) })}</p>`}
    <p class="reason">${reasonText(entry)}</p>
    ${entry.limit_sample && html`<p class="reason">${t("line.limit_sample")}</p>`}
    ${entry.review && html`<p class="reason">${t(`line.reviewed_${entry.review.decision}`, { by: entry.review.by })}</p>`}
    <${ScoreBar} score=${entry.score} thresholds=${entry.thresholds} />
    <dl class="facts">
      ${entry.score !== null && html`<div><dt>${t("line.score")}</dt><dd>${formatScore(entry.score)}</dd></div>`}
      ${facts.map(([name, value]) => html`<div key=${name}><dt>${t(`line.${name}`)}</dt><dd>${value}</dd></div>`)}
    </dl>
    <p class="line-more"><${Link} href=${`/inspections/${entry.id}`}>${t("line.details")}<//></p>
  </div>`;
}

/** @param {Entry} entry */
function tookText(entry) {
  if (!entry.accepted_at || entry.is_waiting) return null;
  const seconds = (Date.parse(entry.at) - Date.parse(entry.accepted_at)) / 1000;
  return t("line.seconds", { seconds: formatNumber(seconds, { maximumFractionDigits: 1 }) });
}
