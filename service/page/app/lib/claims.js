/**
 * The images that this page has claimed for review: the one that is shown, and the next one, loaded already.
 *
 * A claim keeps an image from everybody else for two minutes. It is renewed while the page is open and visible, and
 * given back when the page is left, so that nobody waits for an image that nobody looks at.
 */

import { api, artifactUrl, Problem } from "./api.js";
import { decisions } from "./decisions.js";
import { askForImage } from "./desk.js";
import { createStore } from "./store.js";

/** How many images are claimed: the shown one and the next. */
const CLAIMED = 2;
const RENEW_MS = 40_000;
/** The service takes no more in one call. */
const MOST_SKIPPED = 100;
/** How often an empty queue is asked again. */
const ASK_AGAIN_MS = 5_000;
/** At the start sooner: after a reload the image that was given back may not be free yet. */
const ASK_AT_START_MS = 500;

/** @typedef {"pass" | "review" | "fail"} VerdictName */

/**
 * A person's judgement.
 * @typedef {object} Review
 * @property {"ok" | "defect"} decision
 * @property {string} by
 * @property {string | null} [defect_code]
 * @property {string | null} [withdrawn_at]
 */

/**
 * What the page reads of an inspection; of a blind one the service leaves out what the model found.
 * @typedef {object} Inspection
 * @property {string} id
 * @property {string} product
 * @property {{version: string} | null} bundle
 * @property {string | null} serial
 * @property {string | null} lot
 * @property {string | null} view
 * @property {string | null} station
 * @property {string | null} hold
 * @property {{serial: string, expected: "good" | "bad", verdict: string | null} | null} [hold_sample]
 * @property {boolean | null} [overtime]
 * @property {VerdictName | null} verdict null: the inspection failed or expired
 * @property {{code: string, detail: string} | null} [error]
 * @property {number | null} score
 * @property {number | null} calibrated_score
 * @property {{review: number, fail: number, pixel: number} | null} thresholds
 * @property {{passed: boolean, reasons: {measure: string, value: number, limit: number, detail: string}[]} | null} quality
 * @property {{box: import("./rectangles.js").Box, peak: number, area_px: number}[]} regions
 * @property {Record<string, string>} artifacts
 * @property {number | null} width of the upright image
 * @property {number | null} height
 * @property {string} accepted_at
 * @property {Review[]} reviews
 * @property {"ok" | "defect" | "disputed" | null} [decision] what people decided, all together
 */

/**
 * A claimed image, as the service hands it out. One whose decision was taken back has no claim at first, and a draft.
 * @typedef {object} Task
 * @property {number} shown number of its own, for as long as it is shown
 * @property {string} claim
 * @property {string} until
 * @property {"queue" | "audit" | "double_read"} task
 * @property {boolean} blind
 * @property {Inspection} inspection
 * @property {Draft} [draft]
 */

/**
 * What a person has entered beside the decision; regions null: those of the model were not corrected.
 * @typedef {{note: string, regions: import("./rectangles.js").Box[] | null}} Draft
 */

/**
 * What the page shows: `tasks` begins with the image to decide; `lost`: a claim went to somebody else meanwhile.
 * @typedef {{tasks: readonly Task[], empty: boolean, problem: unknown, lost: boolean, skipped: number}} ClaimsView
 */

export class Claims {
  /** @type {Task[]} */
  #tasks = [];
  /** @type {Set<string>} */
  #skipped = new Set();
  #shown = 0;
  #filling = false;
  #stopped = false;
  #empty = false;
  #lost = false;
  /** @type {unknown} */
  #problem = null;
  /** @type {number[]} */
  #timers = [];
  /** @type {import("./store.js").Store<ClaimsView>} */
  view = createStore(/** @type {ClaimsView} */ ({ tasks: [], empty: false, problem: null, lost: false, skipped: 0 }));

  /** @param {{product?: string, station?: string}} filter */
  constructor(filter) {
    this.filter = filter;
  }

  start() {
    this.#stopped = false;
    addEventListener("pagehide", this.#leave);
    addEventListener("pageshow", this.#return);
    document.addEventListener("visibilitychange", this.#return);
    this.#timers = [setInterval(() => this.#renew(), RENEW_MS), setInterval(() => this.#fill(), ASK_AGAIN_MS)];
    this.#fill().then(() => setTimeout(() => this.#fill(), ASK_AT_START_MS));
  }

  /** Give everything back: the page is left, or shows another queue. */
  stop() {
    this.#stopped = true;
    removeEventListener("pagehide", this.#leave);
    removeEventListener("pageshow", this.#return);
    document.removeEventListener("visibilitychange", this.#return);
    for (const timer of this.#timers) clearInterval(timer);
    this.#leave();
  }

  /**
   * The first image is decided: show the next one at once.
   * @param {Task} task
   */
  decided(task) {
    this.#remove(task);
  }

  /**
   * Put the first image off until everything else is decided.
   * @param {Task} task
   */
  skip(task) {
    this.#skipped.add(task.inspection.id);
    giveBack(task);
    this.#remove(task);
  }

  /** Let the images come again that were skipped. */
  showSkipped() {
    this.#skipped.clear();
    this.#fill();
  }

  /**
   * Show an image again whose decision was taken back.
   * @param {Task} task its claim is "" if it has been answered: it gets another, see `claimedAgain`
   * @param {Draft} draft what was entered
   */
  again(task, draft) {
    this.#tasks.unshift({ ...task, shown: ++this.#shown, draft });
    this.#tell();
  }

  /**
   * An image that is shown again has a new claim.
   * @param {Task} found
   */
  claimedAgain(found) {
    const place = this.#tasks.findIndex((task) => task.inspection.id === found.inspection.id && !task.claim);
    if (place < 0 || this.#stopped) {
      giveBack(found);
    } else {
      this.#tasks[place] = { ...this.#tasks[place], claim: found.claim };
      this.#tell();
    }
  }

  /** @param {Task} task */
  #remove(task) {
    this.#tasks = this.#tasks.filter((one) => one.shown !== task.shown);
    this.#lost = false;
    this.#tell();
    this.#fill();
  }

  /** Claim images until there are enough, one after the other. */
  async #fill() {
    if (this.#filling || this.#stopped || document.hidden) {
      return;
    }
    this.#filling = true;
    try {
      while (this.#tasks.length < CLAIMED && (await this.#claimNext())) {}
      this.#problem = null;
    } catch (error) {
      this.#problem = error;
    } finally {
      this.#filling = false;
      this.#tell();
    }
  }

  /** @returns {Promise<boolean>} whether there was one */
  async #claimNext() {
    const found = await askForImage(() => {
      const unsent = decisions.view.get().waiting.map((one) => one.inspection); // the service would hand them out again
      const skip = [...new Set([...this.#tasks.map((task) => task.inspection.id), ...unsent, ...this.#skipped])];
      return { ...this.filter, skip: skip.slice(0, MOST_SKIPPED) };
    });
    this.#empty = !found;
    if (!found) {
      return false;
    }
    const task = /** @type {Task} */ ({ ...found, shown: ++this.#shown });
    if (this.#stopped) {
      giveBack(task);
      return false;
    }
    preload(task);
    this.#tasks.push(task);
    this.#tell();
    return true;
  }

  /** Renew all claims; one that is over is somebody else's now. */
  async #renew() {
    if (document.hidden || this.#stopped) {
      return;
    }
    for (const task of [...this.#tasks]) {
      try {
        await (task.claim && api.send("POST", `/v1/reviews/claims/${task.claim}/renew`));
      } catch (error) {
        if (error instanceof Problem && error.status === 409) {
          this.#lost = this.#tasks[0] === task;
          this.#tasks = this.#tasks.filter((one) => one !== task);
          this.#tell();
        }
      }
    }
    this.#fill();
  }

  #leave = () => {
    for (const task of this.#tasks) giveBack(task);
    this.#tasks = [];
  };

  #return = () => {
    if (!document.hidden) {
      this.#renew();
    }
  };

  #tell() {
    if (!this.#stopped) {
      const [tasks, skipped] = [[...this.#tasks], this.#skipped.size];
      this.view.set({ tasks, empty: this.#empty, problem: this.#problem, lost: this.#lost, skipped });
    }
  }
}

/**
 * Give a claim back, also while the page goes away. If that fails, the claim ends by itself.
 * @param {Task} task
 */
function giveBack(task) {
  if (task.claim) {
    api.send("DELETE", `/v1/reviews/claims/${task.claim}`, undefined, { keepalive: true }).catch(() => {});
  }
}

/**
 * Let the browser fetch the pictures before they are shown.
 * @param {Task} task
 */
function preload(task) {
  const { id, artifacts } = task.inspection;
  new Image().src = artifactUrl(id, "preview.jpg");
  if (!task.blind && "heatmap.png" in artifacts) new Image().src = artifactUrl(id, "heat.png");
}
