/** A line's parts as they come: the event stream, and the history for what it no longer has. */
import { api, Problem } from "./api.js";
import { followEvents } from "./events.js";
import { useEffect, useRef, useState } from "./html.js";
import { MOST_ENTRIES, withEvent, withHistory } from "./line_log.js";

/** @typedef {import("./line_log.js").Entry} Entry */
/**
 * @typedef {object} Liveness
 * @property {boolean | null} isLive whether events arrive; null: it is not known yet
 * @property {Date | null} since the last sign of life; null: there was none yet
 */

/** Events of so many milliseconds are drawn together. */
const TOGETHER_MS = 20;
/** More than are remembered need not wait: those before them would be gone anyway. */
const MOST_PENDING = 4 * MOST_ENTRIES;
const FIRST_SIGN_MS = 4_000;
const AGAIN_MS = 5_000;

/**
 * @param {string | undefined} station undefined: all
 * @param {(added: Entry[]) => void} onAdded called with the parts whose verdict just came, not with those of the history
 * @returns {{entries: Entry[], liveness: Liveness, stations: any[]}} `stations`: as `GET /v1/stations` gives them
 */
export function useLive(station, onAdded) {
  const [entries, setEntries] = useState(/** @type {Entry[]} */ ([]));
  const [liveness, setLiveness] = useState(/** @type {Liveness} */ ({ isLive: null, since: null }));
  const [stations, setStations] = useState(/** @type {any[]} */ ([]));
  const latest = useRef(onAdded);
  latest.current = onAdded;

  useEffect(() => {
    /** @type {[string, any][]} */
    let pending = [];
    /** @type {Entry[]} */
    let known = [];
    /** @type {Date | null} */
    let lastSign = null;
    let isLive = /** @type {boolean | null} */ (null);
    let ended = false;
    /** @type {Set<number>} */
    const timers = new Set();

    /** @param {() => void} action @param {number} ms */
    const later = (action, ms) => {
      const timer = setTimeout(() => {
        timers.delete(timer);
        action();
      }, ms);
      timers.add(timer);
    };
    const flush = () => {
      const before = new Map(known.map((one) => [one.id, one.is_waiting]));
      for (const [type, event] of pending) known = withEvent(known, type, event);
      pending = [];
      setEntries(known);
      latest.current(known.filter((one) => !one.is_waiting && before.get(one.id) !== false));
    };
    /** Ask until there is an answer: a page that starts while the API does must not stay empty. */
    const ask = async (/** @type {() => Promise<void>} */ question) => {
      try {
        await question();
      } catch {
        if (!ended) later(() => ask(question), AGAIN_MS);
      }
    };
    const readHistory = async () => {
      const page = await api.get("/v1/inspections", { station, order: "newest", limit: MOST_ENTRIES });
      if (ended) return;
      known = withHistory(known, page.inspections);
      setEntries(known);
    };
    const readStations = async () => {
      const found = await api.get("/v1/stations");
      if (!ended) setStations(found.stations);
    };
    const stop = followEvents(
      { station },
      (type, event) => {
        if (type === "reset") ask(readHistory);
        else if (type.startsWith("inspection.")) {
          if (pending.length === 0) later(flush, TOGETHER_MS);
          pending.push([type, event]);
          if (pending.length > MOST_PENDING) pending.shift();
        } else ask(readStations);
      },
      (alive) => {
        if (alive) lastSign = new Date();
        if (alive === isLive) return;
        isLive = alive;
        setLiveness({ isLive, since: lastSign });
        if (alive) {
          ask(readStations);
          ask(readHistory); // again: a part that came before the stream began is in the history by now
        }
      },
    );
    later(() => {
      if (isLive === null) {
        isLive = false;
        setLiveness({ isLive, since: null });
      }
    }, FIRST_SIGN_MS);
    setEntries([]);
    ask(readHistory);
    ask(readStations);
    return () => {
      ended = true;
      stop();
      for (const timer of timers) clearTimeout(timer);
    };
  }, [station]);
  return { entries, liveness, stations };
}

/** At most so often a part's regions and links are asked for, however fast the parts come. */
const PAUSE_MS = 250;

/**
 * Return the inspection of an entry with its regions and links; until it is there, what the entry knows.
 * @param {Entry | null} entry
 * @returns {any}
 */
export function useInspection(entry) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const askedAt = useRef(0);
  const id = entry?.id;
  const isWaiting = entry?.is_waiting;
  useEffect(() => {
    if (!id) return undefined;
    const aborter = new AbortController();
    const ask = () => {
      askedAt.current = performance.now();
      api.get(`/v1/inspections/${encodeURIComponent(id)}`, {}, { signal: aborter.signal }).then(setFound, (problem) => {
        const isAway = problem instanceof Problem && problem.status !== 404;
        if (isAway && !aborter.signal.aborted) timer = setTimeout(ask, AGAIN_MS);
      });
    };
    let timer = setTimeout(ask, Math.max(0, askedAt.current + PAUSE_MS - performance.now()));
    return () => {
      clearTimeout(timer);
      aborter.abort();
    };
  }, [id, isWaiting]);
  if (!entry) return null;
  return found?.id === id ? found : { id, serial: entry.serial, verdict: entry.verdict, artifacts: {} };
}
