// Who may look at the network, and who does: sessions of one's key, and the keys for who administers them.

import { h, replace } from "../dom.js";
import { number, time } from "../format.js";
import { poll, remove } from "../http.js";
import { badge, button, card, dialog, navigate, notice, page_title, table } from "../parts.js";
import { forget, is_needed, may } from "../session.js";
import { t } from "../words.js";

export async function show(place) {
  const open = h("div", {});
  const keys = h("div", {});
  const of_keys = may("admin") ? card(t("access.keys"), h("p", {}, t("access.keys_why")), keys) : null;
  replace(place, page_title(t("access.title")), is_needed() ? card(t("access.sessions"), open) : notice("warn", t("access.open")), of_keys);
  let stop_sessions = null;

  function look_again() {
    stop_sessions?.();
    stop_sessions = poll(open, "/api/v1/session", (rows) => replace(open, sessions_table(rows, end)), 60);
  }

  function end(session) {
    dialog(t("access.end"), [h("p", {}, t(session.is_current ? "access.end_present_why" : "access.end_why", { address: session.address }))], async () => {
      await remove(`/api/v1/session/${encodeURIComponent(session.session_id)}`);
      if (session.is_current) {
        forget();
        navigate("/dashboard/sign-in");
      } else look_again();
    }, t("access.end"));
  }

  if (is_needed()) look_again();
  const stop_keys = of_keys ? poll(keys, "/api/v1/keys", (rows) => replace(keys, keys_table(rows)), 60) : null;
  return () => {
    stop_sessions?.();
    stop_keys?.();
  };
}

function sessions_table(rows, end) {
  return table({
    rows,
    columns: [
      { key: "address", label: t("access.from"), render: (row) => [row.address, row.is_current ? [" ", badge("info", t("access.this_one"))] : null] },
      { key: "user_agent", label: t("access.browser") },
      { key: "scope", label: t("access.scope"), render: (row) => t(`scope.${row.scope}`) },
      { key: "created_at", label: t("access.opened"), render: (row) => time(row.created_at) },
      { key: "expires_at", label: t("access.expires"), render: (row) => time(row.expires_at) },
      { key: "session_id", label: t("access.action"), sort: false, render: (row) => button(t("access.end"), () => end(row), { "aria-label": `${t("access.end")}: ${row.address}, ${time(row.created_at)}` }) },
    ],
  });
}

function keys_table(rows) {
  return table({
    rows, empty: t("access.no_keys"),
    columns: [
      { key: "key_name", label: t("common.name"), render: (row) => [row.key_name, row.person ? h("small", { class: "unknown" }, ` ${row.person}`) : null] },
      { key: "scope", label: t("access.scope"), render: (row) => t(`scope.${row.scope}`) },
      { key: "state", label: t("common.state"), sort: false, render: state_of },
      { key: "created_at", label: t("access.made"), render: (row) => `${time(row.created_at)}, ${row.created_by}` },
      { key: "last_used_at", label: t("access.last_used"), render: (row) => (row.last_used_at ? time(row.last_used_at) : t("access.never")) },
      { key: "requests", label: t("access.requests"), align: "right", render: (row) => number(row.requests, 0) },
      { key: "refused", label: t("access.refused"), align: "right", render: (row) => number(row.refused, 0) },
    ],
  });
}

function state_of({ revoked_at: revoked, expires_at: expires }) {
  // Keys live in real time, whatever clock the network's data follow.
  if (revoked) return badge("bad", t("access.revoked", { time: time(revoked) }));
  if (expires && new Date(expires) < new Date()) return badge("quiet", t("access.expired"));
  return badge("good", expires ? t("access.until", { time: time(expires) }) : t("access.valid"));
}
