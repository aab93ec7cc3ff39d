// The plan: every node at its place, what is wrong drawn over what is well. A canvas, quick with thousands of nodes.

import { h, replace } from "./dom.js";
import { number } from "./format.js";
import { card, link, navigate, table } from "./parts.js";
import { t } from "./words.js";

// Drawn in this order: the worst comes to lie on top. Shapes differ, not only colours.
const STATES = {
  ok: { colour: "--accent", shape: "dot" },
  out_of_service: { colour: "--muted", shape: "cross" },
  silent: { colour: "--muted", shape: "ring" },
  low_pressure: { colour: "--info", shape: "down" },
  warning: { colour: "--warn", shape: "up" },
  critical: { colour: "--bad", shape: "square" },
};
const MARGIN = 18;
// How near a pointer must come to a node, in pixels.
const REACH = 14;

/** A plan in `place`: {update(overview), destroy()}. */
export function plan(place) {
  const canvas = h("canvas", { role: "img", class: "plan-canvas" });
  const tip = h("p", { class: "plan-tip", "aria-hidden": "true" });
  const legend = h("ul", { class: "plan-legend" });
  const rows = h("div", {});
  const troubled = h("details", {}, h("summary", {}, t("plan.list")), rows);
  const none = h("p", { class: "empty" }, t("plan.no_places"));
  replace(place, card(t("plan.title"), none, canvas, tip, legend, troubled));
  let points = { node_id: [], district: [], state: [], latitude: [], longitude: [] };
  let districts = [];
  let at = { x: [], y: [] };

  function update(overview) {
    ({ plan: points, districts } = overview);
    const is_empty = points.node_id.length === 0;
    none.hidden = !is_empty;
    for (const part of [canvas, tip, legend, troubled]) part.hidden = is_empty;
    const counts = Object.fromEntries(Object.keys(STATES).map((name) => [name, 0]));
    for (const state of points.state) counts[state] += 1;
    const entries = Object.entries(counts).filter(([, count]) => count > 0).reverse();
    replace(legend, entries.map(([name, count]) =>
      h("li", {}, h("canvas", { width: 36, height: 36, class: "plan-sample", "aria-hidden": "true", "data-state": name }), ` ${t(`plan.${name}`)}: ${number(count, 0)}`)));
    canvas.setAttribute("aria-label", t("plan.label", {
      nodes: number(points.node_id.length, 0),
      states: entries.map(([name, count]) => `${t(`plan.${name}`)} ${number(count, 0)}`).join(", "),
    }));
    replace(tip, t("plan.hint"));
    list();
    draw();
  }

  /** What the plan shows, for whom a picture says nothing: the nodes that are not well. */
  function list() {
    const ranks = Object.keys(STATES);
    const unwell = points.node_id
      .map((node_id, i) => ({ node_id, state: points.state[i], rank: -ranks.indexOf(points.state[i]), district: district_of(i) }))
      .filter((row) => row.state !== "ok")
      .sort((a, b) => a.rank - b.rank);
    replace(rows, table({
      rows: unwell, empty: t("plan.all_well"),
      columns: [
        { key: "node_id", label: t("common.node"), render: (row) => link(path_of(row.node_id), row.node_id) },
        { key: "rank", label: t("common.state"), render: (row) => t(`plan.${row.state}`) },
        { key: "district", label: t("common.district") },
      ],
    }));
  }

  function district_of(i) {
    const district = districts[points.district[i]];
    return district ? (district.district_name ?? district.district_id) : null;
  }

  function draw() {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !points.node_id.length) return;
    legend.querySelectorAll("canvas").forEach(draw_sample);
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.clearRect(0, 0, width, height);
    at = projected(points, width, height);
    const style = getComputedStyle(canvas);
    names(pen, style);
    const size = points.node_id.length > 1000 ? 3 : points.node_id.length > 200 ? 4 : 6;
    for (const [name, { colour, shape }] of Object.entries(STATES)) {
      pen.fillStyle = pen.strokeStyle = style.getPropertyValue(colour);
      pen.lineWidth = 1.8;
      pen.beginPath();
      const radius = name === "ok" || name === "out_of_service" ? size : size + 2;
      points.state.forEach((state, i) => state === name && SHAPES[shape](pen, at.x[i], at.y[i], radius));
      if (shape === "ring" || shape === "cross") pen.stroke();
      else pen.fill();
    }
  }

  function names(pen, style) {
    if (districts.length > 25) return;
    pen.fillStyle = style.getPropertyValue("--muted");
    pen.font = "600 13px system-ui, sans-serif";
    pen.textAlign = "center";
    districts.forEach((district, index) => {
      const inside = points.district.flatMap((of, i) => (of === index ? [i] : []));
      if (!inside.length) return;
      const x = inside.reduce((sum, i) => sum + at.x[i], 0) / inside.length;
      const y = Math.min(...inside.map((i) => at.y[i])) - 12;
      const name = district.district_name ?? district.district_id;
      const half = pen.measureText(name).width / 2 + 4;
      pen.fillText(name, Math.max(half, Math.min(x, canvas.clientWidth - half)), Math.max(y, 12));
    });
  }

  function nearest(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = REACH ** 2;
    for (let i = 0; i < at.x.length; i += 1) {
      const distance = (at.x[i] - x) ** 2 + (at.y[i] - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  canvas.addEventListener("pointermove", (event) => {
    const i = nearest(event);
    canvas.classList.toggle("on-node", i !== null);
    const parts = i === null ? [t("plan.hint")] : [points.node_id[i], district_of(i), t(`plan.${points.state[i]}`)];
    replace(tip, parts.filter(Boolean).join(" · "));
  });
  canvas.addEventListener("click", (event) => {
    const i = nearest(event);
    if (i !== null) navigate(path_of(points.node_id[i]));
  });
  const sized = new ResizeObserver(draw);
  sized.observe(canvas);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  addEventListener("themechange", draw);
  scheme.addEventListener("change", draw);
  return {
    update,
    destroy() {
      sized.disconnect();
      removeEventListener("themechange", draw);
      scheme.removeEventListener("change", draw);
    },
  };
}

const SHAPES = {
  dot(pen, x, y, r) {
    pen.moveTo(x + r * 0.8, y);
    pen.arc(x, y, r * 0.8, 0, 2 * Math.PI);
  },
  ring(pen, x, y, r) {
    pen.moveTo(x + r, y);
    pen.arc(x, y, r, 0, 2 * Math.PI);
  },
  cross(pen, x, y, r) {
    pen.moveTo(x - r, y - r);
    pen.lineTo(x + r, y + r);
    pen.moveTo(x + r, y - r);
    pen.lineTo(x - r, y + r);
  },
  up(pen, x, y, r) {
    polygon(pen, [[x, y - r * 1.2], [x + r * 1.1, y + r * 0.9], [x - r * 1.1, y + r * 0.9]]);
  },
  down(pen, x, y, r) {
    polygon(pen, [[x, y + r * 1.2], [x + r * 1.1, y - r * 0.9], [x - r * 1.1, y - r * 0.9]]);
  },
  square(pen, x, y, r) {
    pen.rect(x - r, y - r, 2 * r, 2 * r);
  },
};

function polygon(pen, corners) {
  corners.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.closePath();
}

/** Places on the canvas: equirectangular about the middle latitude, true to shape within a utility's area. */
function projected({ latitude, longitude }, width, height) {
  const extent = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const [south, north] = extent(latitude);
  const [west, east] = extent(longitude);
  const narrowing = Math.cos((((south + north) / 2) * Math.PI) / 180);
  const across = (east - west) * narrowing;
  const along = north - south;
  const scale = Math.min((width - 2 * MARGIN) / (across || Infinity), (height - 2 * MARGIN) / (along || Infinity));
  // One place only: in the middle.
  const zoom = Number.isFinite(scale) && scale > 0 ? scale : 0;
  const left = (width - across * zoom) / 2;
  const top = (height - along * zoom) / 2;
  return {
    x: longitude.map((value) => left + (value - west) * narrowing * zoom),
    y: latitude.map((value) => top + (north - value) * zoom),
  };
}

/** A node of a state as the legend shows it. */
function draw_sample(canvas) {
  const pen = canvas.getContext("2d");
  const { colour, shape } = STATES[canvas.dataset.state];
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = pen.strokeStyle = getComputedStyle(canvas).getPropertyValue(colour);
  pen.lineWidth = 4;
  pen.beginPath();
  SHAPES[shape](pen, 18, 18, 11);
  if (shape === "ring" || shape === "cross") pen.stroke();
  else pen.fill();
}

function path_of(node_id) {
  return `/dashboard/nodes/${encodeURIComponent(node_id)}`;
}
