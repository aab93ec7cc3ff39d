// Who looks at the pages, and what they may do.

import { Failure, get, post, remove } from "./http.js";

const ORDER = ["read", "write", "admin"];
let settings = { api_auth: "required" };
let known = null;

export function use_settings(of_server) {
  settings = of_server;
}

/** Whether anybody must sign in at all. */
export function is_needed() {
  return settings.api_auth !== "off";
}

/** {scope, name}, or null for whom nobody knows. */
export function who() {
  return is_needed() ? known : { scope: "admin", name: null };
}

/** Whether the scope of who looks allows another. */
export function may(scope) {
  const present = who();
  return present !== null && ORDER.indexOf(present.scope) >= ORDER.indexOf(scope);
}

/** Whether somebody has signed in here; no script can see the cookie itself. */
export function is_remembered() {
  return localStorage.getItem("signed_in") !== null;
}

/** Asks the API who this is: nobody, where nobody has signed in. */
export async function look() {
  if (!is_remembered()) return;
  try {
    const current = (await get("/api/v1/session")).find((session) => session.is_current);
    known = current ? { scope: current.scope, name: current.key_name } : null;
  } catch (error) {
    if (!(error instanceof Failure) || error.status !== 401) throw error;
    forget();
  }
}

/** Exchanges a key for a session, which the browser keeps as a cookie that no script can read. */
export async function sign_in(key, is_display) {
  await post("/api/v1/session", { is_display }, { "X-API-Key": key });
  localStorage.setItem("signed_in", "yes");
  await look();
  // The clock before the first page: what it shows is long ago or not by the API's.
  await get("/api/v1/status");
  return known;
}

export async function sign_out() {
  await remove("/api/v1/session");
  forget();
}

/** The session has ended. */
export function forget() {
  known = null;
  localStorage.removeItem("signed_in");
}
