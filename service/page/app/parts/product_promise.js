/** What a version states of itself in sentences: what its limits promise, and what it finds of artificial defects. */
import { formatNumber, t } from "../lib/texts.js";

/**
 * @typedef {object} Promised what the service says of the calibrated limits
 * @property {number} parts
 * @property {number} images
 * @property {"held_out" | "leave_group_out" | "estimate"} kind
 * @property {boolean} proven
 * @property {number} false_rejects
 * @property {number | null} confidence
 * @property {boolean} kept
 * @property {number} least
 * @property {number} needed
 * @property {number | null} least_for_one_draw
 */
/**
 * @typedef {object} SensitivityLine what was found of one kind of artificial defects
 * @property {string} kind
 * @property {boolean | null} trained_on
 * @property {string} contrast
 * @property {string} size_is
 * @property {number | null} from_px
 * @property {{anomalies: number, found: number, at_least: number}} beyond
 * @property {{anomalies: number, found: number}} all
 */

/** The contrast that is told; the report of the training has the others. */
const TOLD = "medium";
/** Fewer could all be found by chance. */
const LEAST_BEYOND = 6;
/** Of a promise that holds on average, told beside it. */
const USUAL_CONFIDENCE = 0.95;

/** @param {Promised} promise */
export function promiseText(promise) {
  const { parts, images, confidence, proven, kept, kind, least, needed, least_for_one_draw } = promise;
  const isEach = parts === images;
  const who = isEach ? t("promise.each", { n: images }) : t("promise.parts", { n: parts, images });
  const sure = confidence === null ? t("promise.average") : t("promise.confident", { share: percent(confidence) });
  const values = { who, sure, share: percent(promise.false_rejects), least: percent(least), n: needed };
  const sentences = [t(kept ? (proven ? "promise.kept" : "promise.expected") : "promise.not_kept", values)];
  if (!proven) sentences.push(t(`promise.because.${kind}`));
  if (kept && least_for_one_draw !== null) {
    const one = { share: percent(USUAL_CONFIDENCE), least: percent(least_for_one_draw) };
    sentences.push(t("promise.one_draw", one));
  }
  return sentences.join(" ");
}

/**
 * Return a sentence for each kind of artificial defect, the one that is found smallest first.
 * @param {any} sensitivity as the bundle states it; one of an older version has sentences alone, in English
 * @returns {string[]}
 */
export function sensitivitySentences(sensitivity) {
  if (!sensitivity?.lines) return sensitivity?.sentences ?? [];
  const lines = /** @type {SensitivityLine[]} */ (sensitivity.lines).filter(
    (one) => one.contrast === TOLD && one.all.anomalies > 0,
  );
  const shareOf = (/** @type {SensitivityLine} */ one) => one.all.found / one.all.anomalies;
  const order = (/** @type {SensitivityLine} */ one) => one.from_px ?? Number.POSITIVE_INFINITY;
  lines.sort((a, b) => (order(a) === order(b) ? shareOf(b) - shareOf(a) : order(a) - order(b)));
  return lines.map((one) => lineText(one, sensitivity.share, sensitivity.confidence));
}

/** @param {SensitivityLine} line @param {number} share @param {number} confidence */
function lineText(line, share, confidence) {
  const { kind, trained_on, size_is, from_px, beyond, all } = line;
  const name = t(`synthetic.kind.${kind}`, {}, kind);
  const what = trained_on === false ? t("synthetic.not_trained", { kind: name }) : name;
  const values = { what, share: percent(share), found: beyond.found, n: beyond.anomalies };
  if (all.anomalies < LEAST_BEYOND) return t("synthetic.too_few", { ...values, found: all.found, n: all.anomalies });
  if (from_px === null) return t("synthetic.at_no_size", values);
  const px = formatNumber(from_px, { maximumSignificantDigits: from_px < 100 ? 2 : 3 });
  const size = t(size_is === "length" ? "synthetic.length" : "synthetic.square", { px });
  return t("synthetic.from", {
    ...values,
    size,
    confidence: percent(confidence),
    at_least: percent(beyond.at_least),
  });
}

/** @param {number} share */
function percent(share) {
  return formatNumber(share, { style: "percent", maximumSignificantDigits: 3 });
}
