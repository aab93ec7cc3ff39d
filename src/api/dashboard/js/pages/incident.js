// An incident: what happened, where, how much water, the evidence drawn, what somebody does about it.

import { h, replace } from "../dom.js";
import { date, now, quantity, time } from "../format.js";
import { Failure, all, get, poll, post } from "../http.js";
import { badge, button, card, dialog, facts, link, notice, page_title, severity, table, unknown } from "../parts.js";
import { may } from "../session.js";
import { t } from "../words.js";
import { amount, by_urgency as by_severity, district_title, english, kind_of, lasted, node_link, place_path, weight_of, with_margin } from "./common.js";
import { evidence_of, picture_of } from "./evidence.js";

const YEAR_HOURS = 8784;
// Works so near to an event may have to do with it.
const NEAR_MS = 48 * 3600 * 1000;

export async function show(place, address) {
  const incident_id = address.parts[1];
  replace(place, page_title(t("incident.title")), h("p", { role: "status" }, t("common.loading")));
  const body = h("div", { class: "stack" });
  const parts = Object.fromEntries(["head", "events", "works", "similar"].map((name) => [name, h("div", { class: "stack" })]));
  let pictures = [];
  let drawn = "";
  let is_left = false;

  const load = () => events_of(incident_id);
  const first = await load();
  const subject = [...first].sort(by_urgency)[0];
  replace(place, page_title(title_of(subject)), body);
  replace(body, parts.head, parts.events, card(t("incident.works"), parts.works), card(t("incident.similar"), parts.similar));
  let reload = () => {};
  const stop = poll(place, load, draw);
  reload = () => load().then(draw);
  related(subject).catch((failure) => replace(parts.works, unknown(failure.detail ?? failure.message)));

  function draw(events) {
    if (is_left) return;
    const sorted = [...events].sort(by_urgency);
    replace(parts.head, head_of(sorted, () => reload()));
    // Evidence is drawn again only where it has changed: what somebody looks at closely stays as it is.
    const evidence = JSON.stringify(sorted.map(({ anomaly_id, end, metadata }) => [anomaly_id, end, metadata]));
    if (evidence === drawn) return;
    drawn = evidence;
    for (const made of pictures) made.then((picture) => picture?.destroy());
    pictures = [];
    replace(parts.events, sorted.map((event, n) => event_card(event, n === 0)));
  }

  // The first event's evidence stands open; of the others, whoever opens it.
  function event_card(event, is_first) {
    const where = h("div", { class: "stack" });
    const content = [
      h("p", { class: "facts-line" }, severity(event.severity), " ", t(`why.${event.anomaly_type}`)),
      h("p", { class: "explanation" }, english(event.metadata.explanation)),
      where,
      evidence_of(event),
    ];
    const make = () => pictures.push(picture_of(where, event));
    if (is_first) {
      queueMicrotask(make);
      return card(title_of(event), ...content);
    }
    const details = h("details", {}, h("summary", {}, t("incident.show_evidence")), ...content);
    details.addEventListener("toggle", () => details.open && !where.childElementCount && make());
    return card(title_of(event), details);
  }

  async function related(event) {
    const of_place = event.district_id ? `district_id=${encodeURIComponent(event.district_id)}` : `node_id=${encodeURIComponent(event.node_id)}`;
    const [begin, end] = [Date.parse(event.timestamp) - NEAR_MS, (event.end ? Date.parse(event.end) : now().getTime()) + NEAR_MS];
    const instants = new URLSearchParams({ start_time: new Date(begin).toISOString(), end_time: new Date(end).toISOString() });
    const works = await get(`/api/v1/works?${of_place}&${instants}&limit=200`);
    const known = await all(`/api/v1/anomalies?${of_place}&status=all&hours=${YEAR_HOURS}&limit=1000`);
    if (is_left) return;
    replace(parts.works, explained_by(first), work_table(works));
    replace(parts.similar, similar_table(known.filter((other) =>
      other.anomaly_type === event.anomaly_type && (other.incident_id ?? other.anomaly_id) !== incident_id
      && (event.district_id ? other.district_id === event.district_id : other.node_id === event.node_id))));
  }

  return () => {
    is_left = true;
    stop();
    for (const made of pictures) made.then((picture) => picture?.destroy());
  };
}

// The events of an incident; an event that belongs to none, or is older than a year, is found by its own name.
async function events_of(incident_id) {
  const id = encodeURIComponent(incident_id);
  const events = await get(`/api/v1/anomalies?incident_id=${id}&status=all&hours=${YEAR_HOURS}&limit=1000`);
  return events.length ? events : alone(await get(`/api/v1/anomalies/${id}`));
}

// What is open first; of these the most severe, of alike ones what loses most water.
function by_urgency(a, b) {
  const lost = ({ metadata }) => metadata.lost_m3_so_far ?? 0;
  const is_over = ({ resolved_at }) => Number(Boolean(resolved_at));
  return is_over(a) - is_over(b) || weight_of(a) - weight_of(b) || lost(b) - lost(a) || by_severity(a, b);
}

const singles = new WeakMap();
// The same list for the same answer, so that nothing is drawn again that has not changed.
function alone(event) {
  if (!singles.has(event)) singles.set(event, [event]);
  return singles.get(event);
}

function title_of(event) {
  const where = event.district_id && ["loss", "inflow"].includes(event.measurement_type)
    ? district_title(event)
    : event.node_name || event.node_id;
  return `${kind_of(event.anomaly_type)} · ${where}`;
}

function head_of(events, reload) {
  const worst = events[0];
  const open = events.filter((event) => !event.resolved_at);
  const unseen = open.filter((event) => !event.acknowledged_at);
  const begin = events.map((event) => event.timestamp).reduce((a, b) => (a < b ? a : b));
  const goes_on = events.some((event) => !event.end);
  const end = goes_on ? null : events.map((event) => event.end).reduce((a, b) => (a > b ? a : b));
  const state = !open.length ? badge("quiet", t("incidents.is_over"))
    : unseen.length ? badge("warn", t("incidents.nobody")) : badge("info", t("incidents.acknowledged"));
  const losing = events.filter((event) => event.metadata.lost_m3_so_far != null);
  // Events of one incident may be the same water, so the largest is shown, not their sum.
  const lost = losing.sort((a, b) => b.metadata.lost_m3_so_far - a.metadata.lost_m3_so_far)[0]?.metadata;
  const size = worst.metadata.size_now ?? lost?.size_now;
  return [
    card(t("incident.now"),
      h("p", { class: "facts-line" }, severity(worst.severity), " ", state, " ",
        worst.district_id ? link(place_path("districts", worst.district_id), district_title(worst)) : t("node.no_district"),
        " · ", node_link(worst.node_id, worst.node_name)),
      h("div", { class: "amounts" },
        amount(t("incident.lasts"), lasted(begin, end, now()), `${time(begin)} – ${end ? time(end) : t("events.goes_on")}`),
        amount(t("incident.water"), lost ? with_margin(lost.lost_m3_so_far, lost.lost_m3_margin, "m³") : null,
          lost ? t(lost.lost_m3_margin == null ? "incident.no_margin" : "incident.margin") : null, t("incident.no_water")),
        size == null ? "" : amount(t("incident.flow"), quantity(size, "L/s", 1), lost?.share_percent == null ? null : t("incident.of_inflow", { share: quantity(lost.share_percent, "%", 1) }))),
      events.some((event) => event.metadata.came_back_after)
        ? notice("warn", t("incident.came_back", { at: time(events.find((event) => event.metadata.came_back_after).metadata.came_back_after) })) : "",
      deeds(open, unseen, reload),
      remarks(events)),
  ];
}

function deeds(open, unseen, reload) {
  if (!open.length) return "";
  if (!may("write")) return h("p", { class: "hint" }, t("incident.read_only"));
  return h("div", { class: "buttons" },
    unseen.length ? button(t("incident.acknowledge"), () => acknowledge(unseen, reload), { class: "primary" }) : "",
    button(t("incident.resolve"), () => resolve(open, reload)));
}

const NOTE = () => ({ name: "note", label: t("common.note"), kind: "textarea", help: t("incident.note_help"), most: 2000 });

function acknowledge(events, reload) {
  dialog(t("incident.acknowledge"), [h("p", {}, t("incident.acknowledge_means", { count: events.length })), NOTE()], async ({ note }) => {
    for (const event of events) await write_verdict(`/api/v1/anomalies/${event.anomaly_id}/acknowledge`, note ? { note } : {});
    await reload();
  }, t("incident.acknowledge"));
}

function resolve(events, reload) {
  const verdicts = [["", t("incident.not_known")], ["yes", t("incident.confirmed")], ["no", t("incident.false_alarm")]];
  dialog(t("incident.resolve"), [
    h("p", {}, t("incident.resolve_means", { count: events.length })),
    { name: "verdict", label: t("incident.was_it"), kind: "select", options: verdicts, value: "" },
    NOTE(),
  ], async ({ verdict, note }) => {
    const body = { ...(note ? { note } : {}), ...(verdict ? { is_confirmed: verdict === "yes" } : {}) };
    for (const event of events) await write_verdict(`/api/v1/anomalies/${event.anomaly_id}/resolve`, body);
    await reload();
  }, t("incident.resolve"));
}

async function write_verdict(path, body) {
  try {
    await post(path, body);
  } catch (failure) {
    // Somebody else, or the signal itself, was quicker with this one.
    if (!(failure instanceof Failure) || failure.status !== 409) throw failure;
  }
}

// What people did about it, and wrote.
function remarks(events) {
  const deeds_of = events.flatMap((event) => [
    event.acknowledged_at && [event.acknowledged_at, t("incident.acknowledged_by", { who: event.acknowledged_by ?? t("common.unknown") }), event],
    event.resolved_at && [event.resolved_at, event.resolved_by ? t("incident.resolved_by", { who: event.resolved_by }) : t("incident.ended_itself"), event],
  ].filter(Boolean));
  const noted = events.filter((event) => event.note);
  if (!deeds_of.length && !noted.length) return "";
  return h("ul", { class: "remarks" },
    deeds_of.sort((a, b) => Date.parse(a[0]) - Date.parse(b[0])).map(([at, text, event]) =>
      h("li", {}, h("time", { datetime: at }, time(at)), ` ${text} · ${title_of(event)}`)),
    noted.map((event) => h("li", {}, `${t("common.note")}: `, h("q", {}, event.note), event.is_confirmed == null ? "" : ` · ${t(event.is_confirmed ? "incident.confirmed" : "incident.false_alarm")}`)));
}

function explained_by(events) {
  const explained = events.filter((event) => event.explained_by);
  return explained.map((event) =>
    notice("info", t("incident.explained", { event: title_of(event), kind: t(`work.${event.explained_by.kind}`), severity: t(`severity.${event.explained_by.severity}`) }),
      event.explained_by.note ? [" ", h("q", {}, event.explained_by.note)] : ""));
}

function work_table(works) {
  return table({
    caption: t("incident.works_caption"),
    empty: t("incident.no_works"),
    columns: [
      { key: "kind", label: t("common.kind"), render: (row) => t(`work.${row.kind}`) },
      { key: "begin", label: t("events.begin"), render: (row) => time(row.begin) },
      { key: "end", label: t("events.end"), render: (row) => (row.end ? time(row.end) : t("incident.instant")) },
      { key: "node_id", label: t("common.node"), render: (row) => (row.node_id ? node_link(row.node_id) : `${t("common.district")} ${row.district_id}`) },
      { key: "note", label: t("common.note"), sort: false },
      { key: "created_by", label: t("incident.stated_by") },
    ],
    rows: works,
  });
}

function similar_table(events) {
  const verdict = ({ is_confirmed, resolved_at }) =>
    is_confirmed == null ? t(resolved_at ? "incident.no_verdict" : "incident.still_open") : t(is_confirmed ? "incident.confirmed" : "incident.false_alarm");
  return table({
    caption: t("incident.similar_caption"),
    empty: t("incident.none_similar"),
    columns: [
      { key: "timestamp", label: t("events.begin"), render: (row) => link(place_path("incidents", row.incident_id ?? row.anomaly_id), date(row.timestamp)) },
      { key: "lasted", label: t("incidents.lasted"), value: (row) => Date.parse(row.end ?? now()) - Date.parse(row.timestamp), render: (row) => lasted(row.timestamp, row.end, now()) },
      { key: "severity", label: t("common.severity"), sort: false, render: (row) => severity(row.severity) },
      { key: "node_id", label: t("common.node"), render: (row) => node_link(row.node_id, row.node_name) },
      { key: "lost", label: t("incident.water"), align: "right", value: (row) => row.metadata.lost_m3_so_far, render: (row) => with_margin(row.metadata.lost_m3_so_far, row.metadata.lost_m3_margin, "m³") ?? "—" },
      { key: "verdict", label: t("incident.verdict"), value: verdict, render: verdict },
      { key: "note", label: t("common.note"), sort: false },
    ],
    rows: events,
  });
}
