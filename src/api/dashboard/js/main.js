// The frame around the pages, and the way between them.

import { h, replace } from "./dom.js";
import { clock, now, time, use_zone, zone } from "./format.js";
import { failure, get, poll } from "./http.js";
import { badge, link, navigate, page_title } from "./parts.js";
import * as session from "./session.js";
import { language, t, use_default, use_language } from "./words.js";

// Addresses below /dashboard, `*` for an identifier; pages are loaded when somebody goes there.
const PAGES = [
  ["", () => import("./pages/overview.js")],
  ["nodes", () => import("./pages/nodes.js")],
  ["nodes/*", () => import("./pages/node.js")],
  ["districts/*", () => import("./pages/district.js")],
  ["incidents", () => import("./pages/incidents.js")],
  ["incidents/*", () => import("./pages/incident.js")],
  ["models", () => import("./pages/models.js")],
  ["models/*", () => import("./pages/model.js")],
  ["jobs", () => import("./pages/jobs.js")],
  ["alerts", () => import("./pages/alerts.js")],
  ["works", () => import("./pages/works.js")],
  ["access", () => import("./pages/access.js")],
  ["survey", () => import("./pages/survey.js")],
  ["sign-in", () => import("./pages/sign_in.js")],
];
const LINKS = ["", "incidents", "nodes", "models", "works", "alerts", "jobs", "survey", "access"];
const THEMES = ["auto", "light", "dark"];
const content = document.getElementById("content");
let leave = null;
let visits = 0;
// The address whose page is drawn.
let shown = null;
let stop_status = null;

async function start() {
  dress(localStorage.getItem("theme") ?? "auto");
  // The page's module comes while the rest is asked for; should it fail, the page says so when it is its turn.
  loader(present())?.().catch(() => null);
  try {
    // All at once, each being small. The clock is the API's: by it what pages show is long ago or not.
    const [settings, status, looked] = await Promise.all([
      get("/dashboard/settings.json"),
      session.is_remembered() ? get("/api/v1/status").catch((error) => error) : null,
      session.look().catch((error) => error),
    ]);
    use_zone(settings.utility_timezone);
    use_default(settings.language);
    session.use_settings(settings);
    // Who need not sign in may have been signed in once; what became of that session is then no matter.
    if (session.is_needed() && looked instanceof Error) throw looked;
    const known = session.who() ? status ?? await get("/api/v1/status") : null;
    if (known instanceof Error) throw known;
  } catch (error) {
    frame();
    const again = h("button", { type: "button", onclick: () => location.reload() }, t("common.again"));
    replace(content, page_title(t("frame.not_shown")), failure(error), again);
    return;
  }
  addEventListener("navigated", () => show(true));
  // Also where only the place within the page changes: then there is nothing to draw.
  addEventListener("popstate", () => location.pathname + location.search !== shown && show(true));
  addEventListener("signedout", () => {
    // A wrong key, too, is answered so: then nobody was signed in.
    if (session.who() === null) return;
    session.forget();
    show(true);
  });
  document.addEventListener("click", follow);
  show(false);
}

/** Draws the page of the present address; after a way within the dashboard its heading gets the focus. */
async function show(is_move) {
  visits += 1;
  const visit = visits;
  let address = present();
  if (session.who() === null && address.parts[0] !== "sign-in") {
    history.replaceState(null, "", `/dashboard/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    address = present();
  }
  shown = location.pathname + location.search;
  leave?.();
  leave = null;
  // What was being filled in belongs to the page that is left.
  for (const open of document.querySelectorAll("dialog")) open.close();
  // Who listens hears the page when it is whole.
  content.setAttribute("aria-busy", "true");
  frame();
  const place = h("div", { class: "page" });
  try {
    const load = loader(address);
    if (!load) {
      replace(place, page_title(t("frame.no_page")), h("p", {}, link("/dashboard", t("frame.to_overview"))));
    } else {
      const page = await load();
      if (visit !== visits) return;
      replace(content, place);
      const left = (await page.show(place, address)) ?? null;
      if (visit !== visits) {
        // Somebody went on while this page was still being made: what ends it is not what ends the one shown now.
        left?.();
        return;
      }
      leave = left;
    }
  } catch (error) {
    if (visit !== visits || error.status === 401) return;
    const title = error.status === 404 ? "frame.no_page" : "frame.not_shown";
    replace(
      place,
      page_title(t(title)),
      failure({ status: error.status, detail: error.detail ?? error.message }),
      h("p", {}, link("/dashboard", t("frame.to_overview"))),
    );
    console.warn(error);
  }
  replace(content, place);
  content.removeAttribute("aria-busy");
  if (is_move) {
    scrollTo(0, 0);
    (content.querySelector("h1") ?? content).focus();
  }
}

/** What loads the page of an address; undefined where there is none. */
function loader({ parts }) {
  return PAGES.find(([pattern]) => matches(pattern, parts))?.[1];
}

function present() {
  const below = location.pathname.replace(/^\/dashboard\/?/, "").replace(/\/$/, "");
  const parts = below === "" ? [] : below.split("/").map(decoded);
  return { path: location.pathname, parts, query: new URLSearchParams(location.search) };
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function matches(pattern, parts) {
  const wanted = pattern === "" ? [] : pattern.split("/");
  return wanted.length === parts.length && wanted.every((part, i) => part === "*" || part === parts[i]);
}

function follow(event) {
  const anchor = event.target.closest?.("a[href]");
  if (!anchor || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (anchor.target || anchor.hasAttribute("download") || anchor.origin !== location.origin) return;
  if (!/^\/dashboard(\/|$)/.test(anchor.pathname) || anchor.pathname.startsWith("/dashboard/files/")) return;
  if (anchor.hash) return;
  event.preventDefault();
  navigate(anchor.pathname + anchor.search);
}

function frame() {
  document.documentElement.lang = language();
  replace(document.getElementById("skip"), t("frame.skip"));
  const signed_in = session.who() !== null;
  const menu = h("nav", { id: "menu", "aria-label": t("frame.menu") }, h("ul", {}, signed_in ? LINKS.map(menu_item) : []));
  const toggle = h("button", { type: "button", class: "menu-toggle", "aria-controls": "menu", "aria-expanded": "false" });
  replace(toggle, t("frame.menu"));
  toggle.addEventListener("click", () => {
    const is_open = document.getElementById("frame").classList.toggle("open");
    toggle.setAttribute("aria-expanded", String(is_open));
  });
  const status = h("div", { class: "status" });
  const header = document.getElementById("frame");
  header.classList.remove("open");
  const brand = link("/dashboard", t("frame.product"), { class: "brand" });
  replace(header, brand, signed_in ? toggle : null, menu, status, h("div", { class: "tools" }, tools(signed_in)));
  stop_status?.();
  stop_status = signed_in ? watch(status) : null;
}

function menu_item(name) {
  const path = name === "" ? "/dashboard" : `/dashboard/${name}`;
  const here = location.pathname.replace(/\/$/, "");
  const is_here = here === path || (name !== "" && here.startsWith(`${path}/`));
  return h("li", {}, link(path, t(`frame.link_${name || "overview"}`), { "aria-current": is_here ? "page" : null }));
}

/** The time by the API's clock, and whether what is shown can be trusted. */
function watch(place) {
  let latest = null;
  function draw() {
    if (latest === null) return;
    const kind = { healthy: "good", degraded: "warn", stale: "bad" }[latest.status];
    const label = h("span", { title: latest.reasons.join("; ") }, badge(kind, t(`frame.status_${latest.status}`)));
    const at = now();
    replace(place, h("time", { datetime: at.toISOString(), title: `${time(at)} ${zone()}` }, clock(at)), " ", label);
  }
  const ticking = setInterval(draw, 15_000);
  const stop = poll(place, "/api/v1/status", (status) => {
    latest = status;
    draw();
  }, 60);
  return () => {
    clearInterval(ticking);
    stop();
  };
}

function tools(signed_in) {
  const other = language() === "it" ? "en" : "it";
  const to_other = h("button", { type: "button", class: "quiet", lang: other, onclick: () => speak(other) }, t(`frame.speak_${other}`));
  const theme = localStorage.getItem("theme") ?? "auto";
  const choices = THEMES.map((name) => h("option", { value: name, selected: name === theme }, t(`frame.theme_${name}`)));
  const select = h("select", { "aria-label": t("frame.theme"), onchange: (event) => dress(event.target.value) }, choices);
  const leaving = h("button", { type: "button", class: "quiet", onclick: sign_out }, t("frame.sign_out"));
  return [to_other, select, signed_in && session.is_needed() ? leaving : null];
}

function speak(name) {
  use_language(name);
  show(false);
}

function dress(theme) {
  localStorage.setItem("theme", theme);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  dispatchEvent(new Event("themechange"));
}

async function sign_out() {
  try {
    await session.sign_out();
  } catch (error) {
    if (error.status !== 401) {
      replace(document.getElementById("banner"), failure(error));
      return;
    }
  }
  navigate("/dashboard/sign-in");
}

start();
