/** Sign-in: a person's name, and an API key where the service needs one. Who is signed in hands over by name alone. */
import { takeFocus } from "../lib/focus.js";
import { html, useState } from "../lib/html.js";
import { navigate } from "../lib/router.js";
import { signIn, useSession } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { ProblemNote } from "../parts/problem.js";

/** @param {{query: Record<string, string>}} props `query.next`: where to go afterwards, when a call
 * needed a sign-in; `query.back`: the same, when the person asked for it */
export default function SignIn({ query }) {
  const session = useSession();
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [withKey, setWithKey] = useState(false);
  const [isSending, setSending] = useState(false);
  const hasSession = session?.signed_in ?? false;
  const asksKey = session?.needs_key && (!hasSession || withKey);
  /** @param {SubmitEvent} event */
  const accept = async (event) => {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const key = String(fields.get("key") ?? "").trim() || null;
    setSending(true);
    setError(null);
    try {
      await signIn({ key, person: String(fields.get("person") ?? "").trim() });
      navigate(safePath(query.next ?? query.back), { replace: true });
    } catch (problem) {
      setError(problem);
    } finally {
      setSending(false);
    }
  };
  return html`<main class="narrow">
    <h1>${hasSession ? t("sign_in.hand_over") : t("sign_in.title")}</h1>
    ${query.next && !hasSession && html`<p class="note">${t("sign_in.ended")}</p>`}
    ${
      hasSession &&
      html`<p>${t("sign_in.now", { person: session?.person ?? "–", until: formatDate(session?.expires_at) })}</p>`
    }
    <form onSubmit=${accept}>
      <label class="field">${t("person.name")}<input ref=${takeFocus} name="person" required maxlength="100" autocomplete="off" /></label>
      ${
        asksKey &&
        html`<label class="field">${t("sign_in.key")}<input name="key" type="password" required maxlength="200" autocomplete="off" /></label>
          <p class="hint">${t("sign_in.key_hint")}</p>`
      }
      ${!asksKey && !hasSession && session && html`<p class="hint">${t("sign_in.no_key")}</p>`}
      ${error && html`<${ProblemNote} error=${error} />`}
      <div class="actions">
        ${
          session?.needs_key &&
          hasSession &&
          !withKey &&
          html`<button type="button" onClick=${() => setWithKey(true)}>${t("sign_in.other_key")}</button>`
        }
        <button type="submit" class="primary" disabled=${isSending}>${hasSession ? t("person.accept") : t("nav.sign_in")}</button>
      </div>
    </form>
  </main>`;
}

/**
 * Return the path if it is one of this page, else the start: a link must not lead to another host.
 * @param {string | undefined} path
 */
function safePath(path) {
  const url = path?.startsWith("/") && URL.canParse(path, location.origin) ? new URL(path, location.origin) : null;
  return url?.origin === location.origin && url.pathname !== "/sign-in" ? url.pathname + url.search : "/line";
}
