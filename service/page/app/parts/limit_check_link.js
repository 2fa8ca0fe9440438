/** The way from the line to a station's limit samples, with what the last check by them said. */
import { api, stationPath } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { usePolling } from "../lib/reading.js";
import { Link } from "../lib/router.js";
import { formatMoment, t } from "../lib/texts.js";
import { VerdictShape } from "./verdict.js";

const EVERY_MS = 10_000;
const DAY_MS = 86_400_000;
const SHAPES = /** @type {Record<string, "pass" | "fail">} */ ({ passed: "pass", failed: "fail" });

/** @typedef {import("../pages/limit_samples.js").LimitSamples} LimitSamples */

/** @param {{station: string, stations: {station: string}[]}} props `stations`: those that are set up, as they are now */
export function LimitCheckLink({ station, stations }) {
  const found = useLimitSamples(station, stations);
  const state = found?.check?.state ?? "";
  return html`<${Link} class="button" href=${`/stations/${encodeURIComponent(station)}/limit-samples`}>
    ${state in SHAPES && html`<${VerdictShape} verdict=${SHAPES[state]} />`}
    <span>${t("limit_samples.title")}<span class="limit-last">${found && found.samples.length > 0 && `: ${lastText(found)}`}</span></span>
  <//>`;
}

/**
 * Return a station's limit samples; null until they are known, and where the station is not set up.
 * @param {string} station
 * @param {{station: string}[]} stations read anew with each new list, as after an event
 */
function useLimitSamples(station, stations) {
  const [found, setFound] = useState(/** @type {LimitSamples | null} */ (null));
  const read = () => {
    if (!stations.some((one) => one.station === station)) return setFound(null);
    const isAway = () => setFound(null); // the line says itself when the service is away
    return api.get(stationPath(station, "/limit-samples")).then(setFound, isAway);
  };
  usePolling(read, EVERY_MS, [station, stations]);
  return found;
}

/** @param {LimitSamples} found */
function lastText({ check }) {
  if (!check) return t("limit_samples.never_short");
  const state = t(`limit_samples.state.${check.state}`);
  if (!check.ended_at) return state;
  const isOfToday = Date.now() - Date.parse(check.ended_at) < DAY_MS / 2;
  const style = isOfToday
    ? /** @type {const} */ ({ timeStyle: "short" })
    : /** @type {const} */ ({ dateStyle: "short", timeStyle: "short" });
  return `${state} ${formatMoment(check.ended_at, style)}`;
}
