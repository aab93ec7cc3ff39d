// Every node: found by name, district, role and state.

import { h, replace } from "../dom.js";
import { ago, number, quantity, share, time } from "../format.js";
import { all, get, poll } from "../http.js";
import { badge, card, labelled, link, page_title, table } from "../parts.js";
import { t } from "../words.js";

const STATES = ["all", "events", "silent", "low_quality", "out_of_service"];
const ROLES = ["inlet", "outlet", "consumption", "storage", "monitoring"];
// Of quality scores, as the API has it for what to trust.
const LOW_QUALITY = 0.5;
const DAY = 86_400_000;

export async function show(place, address) {
  const filters = {
    text: labelled({ name: "text", label: t("nodes.search"), kind: "search", value: address.query.get("text") ?? "" }),
    district: labelled({ name: "district", label: t("common.district"), kind: "select", options: [["", t("common.all")]] }),
    role: labelled({ name: "role", label: t("nodes.role"), kind: "select", options: [["", t("common.all")], ...ROLES.map((role) => [role, t(`role.${role}`)])] }),
    state: labelled({
      name: "state", label: t("common.state"), kind: "select", value: address.query.get("state") ?? "all",
      options: STATES.map((state) => [state, t(`nodes.state_${state}`)]),
    }),
  };
  const found = h("p", { role: "status" });
  const list = h("div", {}, h("p", { class: "empty" }, t("common.loading")));
  const form = h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, Object.values(filters).map(({ element }) => element));
  replace(place, page_title(t("nodes.title")), card(t("nodes.find"), form), card(t("nodes.list"), found, list));
  let rows = [];
  let latest = "";

  function draw() {
    const wanted = Object.fromEntries(Object.entries(filters).map(([name, { input }]) => [name, input.value.trim()]));
    const text = wanted.text.toLowerCase();
    const shown = rows.filter((row) =>
      (!text || `${row.node_id}\n${row.node_name}\n${row.location_name ?? ""}`.toLowerCase().includes(text))
      && (!wanted.district || row.district_id === wanted.district)
      && (!wanted.role || row.role === wanted.role)
      && is_in(row, wanted.state, latest));
    replace(found, t("nodes.found", { count: number(shown.length, 0), all: number(rows.length, 0) }));
    replace(list, nodes_table(shown, rows.length === 0));
  }

  for (const { input } of Object.values(filters)) input.addEventListener("input", draw);
  return poll(list, both, ({ nodes, summary }) => {
    const now = new Map(summary.nodes.map((node) => [node.node_id, node]));
    rows = nodes.map((node) => ({ ...now.get(node.node_id), ...node }));
    latest = rows.reduce((most, row) => (row.last_reading > most ? row.last_reading : most), "");
    choose_from(filters.district.input, rows, address.query.get("district"));
    draw();
  });
}

let last = {};

/** The nodes and their latest hour; the very same object as before while neither has changed. */
async function both() {
  const [nodes, summary] = await Promise.all([all("/api/v1/nodes?limit=1000"), get("/api/v1/dashboard/summary")]);
  if (last.nodes !== nodes || last.summary !== summary) last = { nodes, summary };
  return last;
}

function choose_from(select, rows, first) {
  const before = select.value || first || "";
  const names = new Map(rows.filter((row) => row.district_id).map((row) => [row.district_id, row.district_name || row.district_id]));
  const districts = [...names].sort(([, a], [, b]) => a.localeCompare(b));
  replace(select, h("option", { value: "" }, t("common.all")), districts.map(([id, name]) => h("option", { value: id }, name)));
  select.value = names.has(before) ? before : "";
}

function is_in(row, state, latest) {
  if (state === "events") return row.anomaly_count > 0;
  if (state === "low_quality") return row.quality_score !== null && row.quality_score < LOW_QUALITY;
  if (state === "out_of_service") return row.out_of_service_since !== null;
  if (state === "silent") return row.out_of_service_since === null && is_silent(row, latest);
  return true;
}

/** Whether a node lies a day or more behind the network's latest reading. */
function is_silent(row, latest) {
  return row.last_reading === null || Date.parse(latest) - Date.parse(row.last_reading) > DAY;
}

function nodes_table(rows, is_empty) {
  return table({
    rows, empty: t(is_empty ? "nodes.none_yet" : "nodes.none_found"), caption: t("nodes.caption"),
    columns: [
      { key: "node_name", label: t("common.node"), render: (row) => [link(`/dashboard/nodes/${encodeURIComponent(row.node_id)}`, row.node_name), row.node_name === row.node_id ? null : h("small", { class: "unknown" }, ` ${row.node_id}`)] },
      { key: "district_id", label: t("common.district"), value: (row) => row.district_name || row.district_id, render: (row) => row.district_id && link(`/dashboard/districts/${encodeURIComponent(row.district_id)}`, row.district_name || row.district_id) },
      { key: "role", label: t("nodes.role"), render: (row) => row.role && t(`role.${row.role}`) },
      { key: "flow_rate", label: t("measurement.flow_rate"), align: "right", render: (row) => quantity(row.flow_rate, "L/s", 1) },
      { key: "pressure", label: t("measurement.pressure"), align: "right", render: (row) => quantity(row.pressure, "bar", 2) },
      { key: "quality_score", label: t("overview.quality"), align: "right", render: (row) => share(row.quality_score) },
      { key: "last_reading", label: t("overview.latest_reading"), render: (row) => (row.last_reading ? h("span", { title: time(row.last_reading) }, ago(row.last_reading)) : null) },
      { key: "out_of_service_since", label: t("common.state"), sort: false, render: state_of },
    ],
  });
}

function state_of(row) {
  if (row.out_of_service_since) return badge("quiet", t("nodes.state_out_of_service"));
  if (row.anomaly_count > 0) return badge("warn", t("overview.open_events", { count: number(row.anomaly_count, 0) }));
  return badge("good", t("overview.calm"));
}
