// The survey: what every node and channel is taken for and why, and what is lacking for what.

import { h, replace } from "../dom.js";
import { date, duration, number, time } from "../format.js";
import { all, poll } from "../http.js";
import { badge, card, facts, labelled, link, notice, page_title, unknown } from "../parts.js";
import { t } from "../words.js";

const AIMS = ["balance", "forecast", "detector", "recommendation"];
const AT_ONCE = 100;

export async function show(place) {
  const body = h("div", { class: "page" }, h("p", { class: "empty" }, t("common.loading")));
  replace(place, page_title(t("survey.title")), h("p", {}, t("survey.why")), body);
  return poll(body, () => all("/api/v1/survey?limit=1000"), (pages) => draw(body, joined(pages)), 300);
}

/** One survey of its pages, each of which has some nodes and some districts. */
function joined(pages) {
  const of = (name) => pages.flatMap((page) => page[name]);
  return { surveyed_at: pages[0].surveyed_at, nodes: of("nodes"), districts: of("districts") };
}

function draw(body, { surveyed_at: at, nodes, districts }) {
  if (!at) {
    replace(body, notice("info", t("survey.not_yet")));
    return;
  }
  const search = labelled({ name: "text", label: t("nodes.search"), kind: "search" });
  const list = h("div", { class: "survey" });
  search.input.addEventListener("input", () => list_nodes(list, nodes, search.input.value));
  list_nodes(list, nodes, "");
  replace(body, h("p", { class: "empty" }, t("survey.made", { time: time(at) })),
    card(t("survey.districts"), districts.length ? districts.map(district_of) : h("p", { class: "empty" }, t("overview.no_districts"))),
    card(t("survey.nodes"), h("div", { class: "filters" }, search.element), list));
}

function list_nodes(list, nodes, text) {
  const wanted = text.trim().toLowerCase();
  const found = nodes.filter((node) => `${node.node_id}\n${node.node_name}\n${node.district_id ?? ""}`.toLowerCase().includes(wanted))
    .sort((a, b) => is_complete(a) - is_complete(b));
  let drawn = 0;
  const more = h("button", { type: "button", class: "quiet", onclick: add });

  function add() {
    more.before(...found.slice(drawn, drawn + AT_ONCE).map(node_of));
    drawn = Math.min(found.length, drawn + AT_ONCE);
    more.hidden = drawn >= found.length;
    replace(more, t("common.more_rows", { shown: drawn, all: found.length }));
  }

  replace(list, found.length ? null : h("p", { class: "empty" }, t("nodes.none_found")), more);
  add();
}

function district_of(district) {
  const name = district.district_name ?? district.district_id;
  return h("details", { class: "survey-item" },
    h("summary", {}, h("strong", {}, name), " ", t("survey.count", { count: number(district.nodes, 0) }), " ", AIMS.map((aim) => [standing(aim, district.has[aim]), " "])),
    h("p", {}, link(`/dashboard/districts/${encodeURIComponent(district.district_id)}`, t("survey.to_district"))),
    lacks(district.lacking, AIMS));
}

/** Whether a district has a balance, a forecast, a detector, a recommendation. */
function standing(aim, has) {
  const kind = has === true || has === "active" || has === "recommended" ? "good" : has === "shadow" || has === "refused" ? "info" : "quiet";
  const word = typeof has === "boolean" ? t(has ? "common.yes" : "common.no") : t(`survey.has_${has}`);
  return badge(kind, `${t(`survey.aim_${aim}`)}: ${word}`);
}

function node_of(node) {
  const role = node.role ?? node.role_believed;
  return h("details", { class: "survey-item" },
    h("summary", {}, h("strong", {}, node.node_name), " ",
      role ? badge(node.role ? "quiet" : "info", node.role ? t(`role.${role}`) : t("survey.believed", { value: t(`role.${role}`) })) : badge("warn", t("survey.no_role")), " ",
      is_complete(node) ? badge("good", t("survey.complete")) : badge("warn", t("survey.lacking"))),
    h("p", {}, link(`/dashboard/nodes/${encodeURIComponent(node.node_id)}`, t("survey.to_node"))),
    facts([
      [t("common.district"), node.district_id ?? believed(node.district_believed)],
      [t("survey.span"), node.first_reading ? `${date(node.first_reading)} – ${date(node.last_reading)}` : unknown(t("survey.no_readings"))],
      [t("survey.days"), number(node.days, 1)],
      [t("survey.cadence"), node.cadence_seconds === null ? null : duration(node.cadence_seconds)],
    ]),
    reasons(node.why),
    node.channels.length ? h("ul", {}, node.channels.map(channel_of)) : null,
    lacks(node.lacking, AIMS));
}

function is_complete(node) {
  return !AIMS.some((aim) => node.lacking[aim]?.length);
}

function believed(guess) {
  return guess ? [t("survey.believed", { value: guess.value }), h("br", {}), h("small", {}, guess.why)] : null;
}

function channel_of({ measurement, taken_for: taken, unit, why }) {
  return h("li", {}, h("strong", {}, t(`measurement.${measurement}`)), taken && taken !== measurement ? ` → ${taken}` : null, unit ? ` (${unit})` : null, reasons(why));
}

function reasons(sentences) {
  return sentences?.length ? h("ul", { class: "unknown" }, sentences.map((sentence) => h("li", {}, sentence))) : null;
}

function lacks(lacking, aims) {
  const found = aims.filter((aim) => lacking[aim]?.length);
  return found.map((aim) => h("div", {}, h("h3", {}, t("survey.lacks", { aim: t(`survey.aim_${aim}`) })), h("ul", {}, lacking[aim].map((sentence) => h("li", {}, sentence)))));
}
