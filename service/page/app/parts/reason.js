/** Why a part has its verdict: one plain sentence. */
import { formatNumber, t } from "../lib/texts.js";

/**
 * @param {any} entry an inspection, or what its event says of it
 * @returns {string}
 */
export function reasonText(entry) {
  if (entry.is_waiting) return t("reason.waiting");
  if (entry.error || entry.verdict === null) return t("reason.no_result", { detail: failureText(entry.error) });
  const unfit = entry.quality?.passed === false ? entry.quality.reasons?.[0] : null;
  if (unfit) return unfitText(unfit);
  if (entry.score === null || !entry.thresholds) return entry.overtime ? t("reason.overtime") : "";
  const values = {
    score: formatScore(entry.score),
    review: formatScore(entry.thresholds.review),
    fail: formatScore(entry.thresholds.fail),
  };
  if (entry.verdict === "fail") return t("reason.fail", values);
  if (entry.hold) return t("reason.hold", { reason: holdText(entry.hold, entry.hold_sample) });
  if (entry.overtime) return t("reason.overtime");
  return t(entry.verdict === "review" ? "reason.review" : "reason.pass", values);
}

/**
 * Return why an image is unfit, in a sentence.
 * @param {{measure: string, value: number, limit: number, detail: string}} reason
 */
export function unfitText({ measure, value, limit, detail }) {
  const short = (/** @type {number} */ number) => formatNumber(number, { maximumSignificantDigits: 3 });
  return t(`reason.${measure}`, { value: short(value), limit: short(limit) }, detail);
}

/**
 * Return why a station is on hold: a person's words, or a limit sample's wrong verdict.
 * @param {string} reason
 * @param {{serial: string, expected: "good" | "bad", verdict: string | null} | null | undefined} sample
 */
export function holdText(reason, sample) {
  if (!sample) return reason;
  return t(`hold.sample.${sample.expected}`, {
    serial: sample.serial,
    verdict: t(`verdict.${sample.verdict ?? "none"}`),
  });
}

/** @param {{code: string, detail: string} | null | undefined} error */
export function failureText(error) {
  return error ? t(`failure.${error.code}`, {}, error.detail) : "–";
}

/**
 * Return a number as a score is shown: three decimals.
 * @param {number | null} score
 */
export function formatScore(score) {
  return formatNumber(score, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
}
