/** Calls of this service's REST interface, with the session's cookie. */

/** An answer that refuses: RFC 9457. */
export class Problem extends Error {
  /**
   * @param {number} status 0: no answer came
   * @param {{type?: string, title?: string, detail?: string}} body
   */
  constructor(status, body) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.type = body.type ?? "";
    this.title = body.title ?? "";
    this.detail = body.detail ?? "";
  }
}

let csrfToken = "";
/** Ends when a sign-in that is under way has ended: the cookie it sets is of no use without its token. */
let sessionChange = /** @type {Promise<unknown>} */ (Promise.resolve());
/** @type {() => Promise<void>} */
let renewSession = async () => {};
/** @type {(problem: Problem) => void} */
let onUnauthorized = () => {};

/** @param {string | null} token of the session; sent with every call that changes something */
export function setCsrfToken(token) {
  csrfToken = token ?? "";
}

/** @param {() => Promise<void>} renewal reads the session again, which another tab of this browser may have changed */
export function setSessionRenewal(renewal) {
  renewSession = renewal;
}

/**
 * Have calls that change something wait until a sign-in has ended.
 * @template T
 * @param {Promise<T>} change
 * @returns {Promise<T>}
 */
export function whileSessionChanges(change) {
  sessionChange = change.catch(() => {});
  return change;
}

/** @param {(problem: Problem) => void} listener called when a call needs a sign-in */
export function setUnauthorizedListener(listener) {
  onUnauthorized = listener;
}

/**
 * Return a path with these query parameters; those that are null, undefined or "" are left out.
 * @param {string} path
 * @param {Record<string, unknown>} [query]
 */
export function withQuery(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") parameters.append(name, String(one));
    }
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

/**
 * Call the service; throws Problem, with status 0 if no answer came.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body] sent as JSON
 * @param {{headers?: Record<string, string>, signal?: AbortSignal, keepalive?: boolean}} [options]
 * @returns {Promise<{status: number, headers: Headers, data: any}>}
 */
export async function call(method, path, body, options = {}) {
  const needsToken = method !== "GET" && path !== "/v1/session";
  if (needsToken) await sessionChange;
  try {
    return await sendOnce(method, path, body, options);
  } catch (problem) {
    if (!(needsToken && problem instanceof Problem && problem.type.endsWith("csrf-token-missing"))) throw problem;
    await renewSession();
    return await sendOnce(method, path, body, options);
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} body
 * @param {{headers?: Record<string, string>, signal?: AbortSignal, keepalive?: boolean}} options
 */
async function sendOnce(method, path, body, options) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json", ...options.headers };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrfToken) headers["X-CSRF-Token"] = csrfToken;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: options.signal,
      keepalive: options.keepalive,
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, { title: "no answer", detail: "" });
  }
  const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
  const data = isJson ? await response.json() : null;
  if (!response.ok) {
    const problem = new Problem(response.status, data ?? { title: response.statusText });
    if (response.status === 401) onUnauthorized(problem);
    throw problem;
  }
  return { status: response.status, headers: response.headers, data };
}

export const api = {
  /**
   * @param {string} path
   * @param {Record<string, unknown>} [query]
   * @param {{signal?: AbortSignal}} [options]
   */
  async get(path, query, options) {
    return (await call("GET", withQuery(path, query), undefined, options)).data;
  },
  /**
   * @param {"POST" | "PUT" | "PATCH" | "DELETE"} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {{headers?: Record<string, string>, keepalive?: boolean}} [options]
   */
  async send(method, path, body, options) {
    return (await call(method, path, body, options)).data;
  },
};

/**
 * @param {string} id of an inspection
 * @param {string} name such as preview.jpg
 */
export function artifactUrl(id, name) {
  return `/v1/inspections/${encodeURIComponent(id)}/${name}`;
}

/**
 * Return the path of a station's call: its name may hold slashes.
 * @param {string} station
 * @param {string} [rest] such as /hold
 */
export function stationPath(station, rest = "") {
  return `/v1/stations/${encodeURIComponent(station)}${rest}`;
}
