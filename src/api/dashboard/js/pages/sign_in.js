// Signing in: a key for a session.

import { h, replace } from "../dom.js";
import { Failure, failure } from "../http.js";
import { labelled, navigate, notice, page_title } from "../parts.js";
import { is_needed, sign_in } from "../session.js";
import { t } from "../words.js";

export async function show(place, address) {
  const next = target(address.query.get("next"));
  if (!is_needed()) {
    replace(place, page_title(t("sign_in.title")), notice("info", t("sign_in.not_needed")));
    return;
  }
  const key = labelled({ name: "key", label: t("sign_in.key"), kind: "password", required: true, help: t("sign_in.key_help"), most: 300 });
  key.input.autocomplete = "current-password";
  const display = labelled({ name: "display", label: t("sign_in.display"), kind: "checkbox" });
  const trouble = h("div", {});
  const enter = h("button", { type: "submit", class: "primary" }, t("sign_in.enter"));
  const form = h("form", { class: "card sign-in" }, key.element, display.element, trouble, enter);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    enter.disabled = true;
    try {
      await sign_in(key.input.value.trim(), display.input.checked);
      navigate(next);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      replace(trouble, error.status === 401 ? notice("bad", t("sign_in.wrong")) : failure(error));
      key.input.focus();
    } finally {
      enter.disabled = false;
    }
  });
  replace(place, page_title(t("sign_in.title")), form);
  key.input.focus();
}

/** Only pages of the dashboard may follow: the address may come from anybody. */
function target(next) {
  const is_ours = next !== null && /^\/dashboard(\/|\?|$)/.test(next) && !next.startsWith("/dashboard/sign-in");
  return is_ours ? next : "/dashboard";
}
