// What the API answers, asked for as seldom and as small as it can be: by ETag.

import { h, replace } from "./dom.js";
import { clock, set_clock } from "./format.js";
import { t } from "./words.js";

const MOST_ANSWERS = 200;
// Lists are of thousands of rows at most; one that goes on beyond that says so instead of passing for whole.
const MOST_PAGES = 100;
// Who got no answer asks again sooner.
const SECONDS_UNTIL_AGAIN = 10;
const answers = new Map();
const lists = new Map();
// Polls that got no answer, and since when.
const silent = new Map();

/** Why there is no answer; status 0: the API cannot be reached. */
export class Failure extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
    this.detail = detail;
  }
}

/** The parsed JSON of a path; unchanged, it is the very same object as before. */
export async function get(path) {
  return (await fetched(path)).data;
}

/** Every row of a list that comes in pages; unchanged, it is the very same array as before. */
export async function all(path) {
  const pages = [];
  for (let next = path; next; ) {
    const answer = await fetched(next);
    pages.push(answer.data);
    next = answer.next;
    if (next && pages.length === MOST_PAGES) throw new Failure(413, t("http.too_many", { pages: MOST_PAGES }));
  }
  const before = lists.get(path);
  if (before && before.pages.length === pages.length && pages.every((page, i) => page === before.pages[i])) {
    return before.rows;
  }
  const rows = pages.flat();
  remember(lists, path, { pages, rows });
  return rows;
}

export function post(path, body, headers) {
  return changed("POST", path, body, headers);
}

export function remove(path) {
  return changed("DELETE", path);
}

/**
 * Draws what a path answers, at once and then whenever it has changed, as long as somebody looks at the page.
 * `path` may be a function that returns a promise of data. Returns what stops it.
 */
export function poll(place, path, render, seconds = 30) {
  let stopped = false;
  let timer = null;
  let is_under_way = false;
  let shown;
  const name = Symbol("poll");

  async function look() {
    clearTimeout(timer);
    timer = null;
    is_under_way = true;
    try {
      const data = await (typeof path === "string" ? get(path) : path());
      if (stopped) return;
      answered(name);
      if (data !== shown) {
        shown = data;
        render(data);
      }
    } catch (error) {
      if (stopped) return;
      if (!(error instanceof Failure)) throw error;
      if (error.status === 401) return;
      // What is shown is then old, whyever no newer came.
      if (is_away(error) || shown !== undefined) unanswered(name, error);
      else answered(name);
      if (shown === undefined) replace(place, failure(error));
    } finally {
      is_under_way = false;
      const wait = silent.has(name) ? Math.min(seconds, SECONDS_UNTIL_AGAIN) : seconds;
      if (!stopped && !document.hidden) timer = setTimeout(look, wait * 1000);
    }
  }

  function seen() {
    if (!document.hidden && timer === null && !is_under_way) look();
  }

  document.addEventListener("visibilitychange", seen);
  look();
  return () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
    answered(name);
  };
}

/** A sentence for a failure, to be shown in place of what was asked for. */
export function failure(error) {
  const detail = error.status === 0 ? t("http.unreachable") : error.detail;
  return h("p", { class: "notice bad", role: "alert" }, h("strong", {}, t("http.failed")), " ", detail);
}

function is_away(error) {
  return error.status === 0 || error.status === 429 || error.status >= 500;
}

async function fetched(path) {
  const before = answers.get(path);
  const response = await reached(path, { headers: before ? { "If-None-Match": before.etag } : {} });
  if (response.status === 304 && before) {
    remember(answers, path, before);
    return before;
  }
  if (!response.ok) throw await refusal(response);
  const data = await read(response);
  // Only this answer is made anew each time, so only it says what time it is there.
  if (path === "/api/v1/status") set_clock(data.timestamp);
  const answer = { etag: response.headers.get("etag"), data, next: next_of(response) };
  if (answer.etag) remember(answers, path, answer);
  return answer;
}

async function changed(method, path, body, headers) {
  const init = { method, headers: { ...headers } };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const response = await reached(path, init);
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? null : read(response);
}

/** What an answer says; one that broke off on its way is none. */
async function read(response) {
  try {
    return await response.json();
  } catch {
    throw new Failure(0, t("http.unreachable"));
  }
}

async function reached(path, init) {
  try {
    return await fetch(path, { credentials: "same-origin", cache: "no-store", ...init });
  } catch {
    throw new Failure(0, t("http.unreachable"));
  }
}

async function refusal(response) {
  let detail = response.statusText;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // A proxy's own page: its status says enough.
  }
  if (response.status === 401) signed_out();
  return new Failure(response.status, detail);
}

/** Forgets what only the session that has ended might see; the frame goes to where one signs in. */
function signed_out() {
  answers.clear();
  lists.clear();
  dispatchEvent(new Event("signedout"));
}

function next_of(response) {
  const found = /<([^>]+)>\s*;\s*rel="?next"?/.exec(response.headers.get("link") ?? "");
  return found ? found[1] : null;
}

function remember(memory, key, value) {
  memory.delete(key);
  memory.set(key, value);
  if (memory.size > MOST_ANSWERS) memory.delete(memory.keys().next().value);
}

function answered(name) {
  if (silent.delete(name)) banner();
}

function unanswered(name, error) {
  const before = silent.get(name);
  silent.set(name, { since: before?.since ?? new Date(), error });
  banner();
}

function banner() {
  const place = document.getElementById("banner");
  const [first] = [...silent.values()].sort((a, b) => a.since - b.since);
  if (!first) {
    replace(place);
    return;
  }
  // By this computer's clock: the API's cannot be asked.
  const since = clock(first.since);
  const why = first.error.status === 0 ? "" : ` (${first.error.detail})`;
  replace(place, h("p", { class: "notice bad" }, t("http.away", { since }), why));
}
