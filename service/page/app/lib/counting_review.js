/** Which of an image's reviews counts: as the service's counted_review. */

/**
 * Return the review that counts: the last one that nobody has withdrawn; null if there is none.
 *
 * A blind look at what another person has judged replaces no decision; where it disagrees, none counts until the next.
 * @param {any[]} reviews oldest first
 * @returns {any}
 */
export function countingReview(reviews) {
  let first = null;
  let isDisputed = false;
  for (const review of reviews.filter((one) => !one.withdrawn_at)) {
    if (isSecondLook(review, first)) {
      isDisputed ||= review.decision !== first.decision;
    } else {
      first = review;
      isDisputed = false;
    }
  }
  return isDisputed ? null : first;
}

/**
 * Return whether a review only measures one before it.
 * @param {any} review
 * @param {any} before the review that counts so far; null: none does
 * @returns {boolean}
 */
function isSecondLook(review, before) {
  return Boolean(review.blind && before && before.by !== review.by);
}
