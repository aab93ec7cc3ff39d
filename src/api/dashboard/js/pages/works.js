// The calendar of works: what explains events, so that nobody is called for them.

import { h, replace } from "../dom.js";
import { instant_of, now, time, wall_time } from "../format.js";
import { all, Failure, get, poll, post, remove } from "../http.js";
import { badge, button, card, dialog, link, page_title, table } from "../parts.js";
import { may } from "../session.js";
import { t } from "../words.js";

const WORKS = "/api/v1/works?limit=200";
const KINDS = ["works", "meter_exchange", "closure", "network_change"];
// These last from one instant to another; the others may happen at one.
const LASTING = ["works", "closure"];

export async function show(place, address) {
  const list = h("div", {});
  let stop = null;

  function look() {
    stop?.();
    stop = poll(list, () => all(WORKS), (rows) => replace(list, works_table(rows, take_back)), 60);
  }

  async function state_one() {
    const districts = await get("/api/v1/districts?limit=1000");
    dialog(t("works.state"), [
      h("p", {}, t("works.state_why")),
      { name: "kind", label: t("common.kind"), kind: "select", options: KINDS.map((kind) => [kind, t(`work.${kind}`)]) },
      { name: "district_id", label: t("common.district"), kind: "select", value: address.query.get("district") ?? "", options: [["", "—"], ...districts.map((one) => [one.district_id, one.district_name ?? one.district_id])] },
      { name: "node_id", label: t("works.node_id"), help: t("works.node_help"), value: address.query.get("node") ?? "", most: 300 },
      { name: "begin", label: t("works.begin"), kind: "datetime-local", value: wall_time(now()), required: true, help: t("works.zone") },
      { name: "end", label: t("works.end"), kind: "datetime-local", help: t("works.end_help") },
      { name: "note", label: t("common.note"), kind: "textarea", most: 300 },
    ], async ({ kind, district_id, node_id, begin, end, note }) => {
      if (!district_id && !node_id) throw new Failure(422, t("works.where"));
      if (!end && LASTING.includes(kind)) throw new Failure(422, t("works.end_missing"));
      await post("/api/v1/works", {
        kind, district_id: district_id || null, node_id: node_id || null, note: note || null,
        begin: instant_of(begin), end: end ? instant_of(end) : null,
      });
      look();
    });
  }

  function take_back(work) {
    dialog(t("works.take_back"), [h("p", {}, t("works.take_back_why", { kind: t(`work.${work.kind}`), begin: time(work.begin) }))], async () => {
      await remove(`/api/v1/works/${work.work_id}`);
      look();
    }, t("works.take_back"));
  }

  const new_one = may("write") ? button(t("works.state"), state_one, { class: "primary" }) : null;
  replace(place, page_title(t("works.title"), new_one), card(t("works.list"), h("p", {}, t("works.why")), list));
  look();
  return () => stop();
}

function works_table(rows, take_back) {
  const action = { key: "work_id", label: t("works.action"), sort: false, render: (row) => button(t("works.take_back"), () => take_back(row), { "aria-label": `${t("works.take_back")}: ${t(`work.${row.kind}`)} ${time(row.begin)}` }) };
  return table({
    rows, empty: t("works.none"),
    columns: [
      { key: "kind", label: t("common.kind"), render: (row) => t(`work.${row.kind}`) },
      { key: "state", label: t("common.state"), sort: false, render: state_of },
      { key: "begin", label: t("works.begin"), render: (row) => time(row.begin) },
      { key: "end", label: t("works.end"), render: (row) => row.end && time(row.end) },
      { key: "district_id", label: t("works.place"), render: place_of },
      { key: "note", label: t("common.note") },
      { key: "created_by", label: t("works.by") },
      ...(may("write") ? [action] : []),
    ],
  });
}

function state_of({ begin, end }) {
  const at = now();
  if (new Date(begin) > at) return badge("info", t("works.planned"));
  if (end && new Date(end) > at) return badge("warn", t("works.under_way"));
  return badge("quiet", t("works.over"));
}

function place_of({ node_id, district_id }) {
  return [
    district_id ? link(`/dashboard/districts/${encodeURIComponent(district_id)}`, district_id) : null,
    district_id && node_id ? " · " : null,
    node_id ? link(`/dashboard/nodes/${encodeURIComponent(node_id)}`, node_id) : null,
  ];
}
