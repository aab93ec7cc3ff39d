// What the processing service does and did.

import { h, replace } from "../dom.js";
import { duration, number, time } from "../format.js";
import { get, poll } from "../http.js";
import { badge, card, facts, labelled, notice, page_title, table } from "../parts.js";
import { t } from "../words.js";

const STATUSES = ["", "running", "failed", "completed", "queued"];
const KINDS = { completed: "good", failed: "bad", running: "info", queued: "quiet" };

export async function show(place) {
  const service = h("div", {});
  const list = h("div", {});
  const status = labelled({ name: "status", label: t("common.state"), kind: "select", options: STATUSES.map((one) => [one, one ? t(`job_status.${one}`) : t("common.all")]) });
  let stop_jobs = null;

  function look() {
    stop_jobs?.();
    const wanted = status.input.value;
    stop_jobs = poll(list, `/api/v1/jobs?limit=100${wanted ? `&status=${wanted}` : ""}`, (rows) => replace(list, jobs_table(rows)));
  }

  status.input.addEventListener("change", look);
  replace(place, page_title(t("jobs.title")), card(t("jobs.service"), service), card(t("jobs.list"), h("div", { class: "filters" }, status.element), list));
  const stop_service = poll(service, () => get("/api/v1/status"), (found) => replace(service, service_of(found)));
  look();
  return () => {
    stop_service();
    stop_jobs();
  };
}

function service_of({ status, reasons, processing_service: service, data_freshness: freshness, redis_status: redis }) {
  return [
    status === "healthy" ? notice("good", t("jobs.healthy")) : notice(status === "stale" ? "bad" : "warn", reasons.join("; ")),
    h("div", { class: "spaced" }, facts([
      [t("jobs.last_run"), service.last_run && time(service.last_run)],
      [t("jobs.took"), service.duration_seconds === null ? null : duration(service.duration_seconds)],
      [t("jobs.next_run"), service.next_run && time(service.next_run)],
      [t("jobs.replicas"), number(service.replicas, 0)],
      [t("jobs.latest_data"), freshness.latest_data && time(freshness.latest_data)],
      [t("jobs.redis"), redis.connected ? t("jobs.connected") : t("jobs.away")],
    ])),
  ];
}

function jobs_table(rows) {
  return table({
    rows, empty: t("jobs.none"),
    columns: [
      { key: "scheduled_for", label: t("jobs.scheduled"), render: (row) => time(row.scheduled_for) },
      { key: "job_name", label: t("jobs.job"), render: (row) => (row.job_name === row.job_type ? row.job_name : [row.job_name, h("small", { class: "unknown" }, ` ${row.job_type}`)]) },
      { key: "status", label: t("common.state"), render: (row) => badge(KINDS[row.status], t(`job_status.${row.status}`)) },
      { key: "progress_percentage", label: t("jobs.progress"), align: "right", render: progress },
      { key: "duration_seconds", label: t("jobs.took"), align: "right", render: (row) => duration(row.duration_seconds) },
      { key: "triggered_by", label: t("jobs.by") },
      { key: "result_summary", label: t("jobs.result"), sort: false, render: result_of },
    ],
  });
}

function progress({ processed_items: done, total_items: all, failed_items: failed }) {
  if (!all) return null;
  return [t("overview.of", { count: number(done, 0), all: number(all, 0) }), failed ? [" ", badge("bad", t("jobs.failed_items", { count: number(failed, 0) }))] : null];
}

function result_of({ error_message: error, result_summary: result }) {
  if (error) return h("span", {}, badge("bad", t("job_status.failed")), " ", error);
  const entries = Object.entries(result ?? {}).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value));
  return entries.length ? entries.map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? number(value, 1) : value}`).join(", ") : null;
}
