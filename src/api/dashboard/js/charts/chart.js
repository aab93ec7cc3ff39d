// A chart of figures over time, by uPlot: zoom, pan, values under the cursor, a legend, and the table behind it.

import { h, replace } from "../dom.js";
import { number, quantity, time, zone } from "../format.js";
import { table } from "../parts.js";
import { language, t } from "../words.js";
import { tick_labels } from "./axis.js";
import { SEVERITY_COLOURS, above, beneath } from "./drawing.js";
import { csv, figures_of, file_name, panned, shown, within, zoomed } from "./figures.js";
import { dragged, touched } from "./hands.js";
import { iso } from "./history.js";
import { decimals, drawn, extent, prepared, same, signature, y_range } from "./shape.js";

// A table longer than this is nothing to read; the file has all of it.
const MOST_ROWS = 500;
// Nearer than this there is nothing to see.
const LEAST_WINDOWS = 4;
const COLOURS = ["measured", "forecast", "expected", "accent", "good", "warn", "bad", "info", "muted", "ink", "line", "gap"];
let charts = 0;

// Draws a chart at the end of `place`. Options:
//   title, unit; digits (2)
//   timestamps: epoch seconds, ascending; series: [{label, kind, colour, values | lower and upper, timestamps?, hidden?}],
//     kind: line, dashes, steps, bars, points, band; colour: measured, forecast, expected, accent, good, warn, bad, muted
//   gaps: [{from, to}]; events: [{from, to, label, severity, open?}]; marks (levels): [{value, label, colour, from?, to?}]
//   range: {low, high}, of the values to be drawn where not all are; height (px); view: {from, to}, what to show first; bounds: {from, to}, as far as one may go
//   on_zoom(from, to): after the reader has changed what is shown
// Returns {update(options), show(from, to), view(), destroy()}.
export function chart(place, options) {
  const id = `chart-${++charts}`;
  let data = prepared(options);
  let view = options.view ?? extent(data);
  let plot = null;
  let zooming = 0;

  const surface = h("div", { class: "chart-surface" });
  const frame = h("div", {
    class: "chart-frame", tabindex: "0", role: "group", "aria-roledescription": t("chart.role"), "aria-describedby": `${id}-keys`,
  }, surface);
  const readout = h("p", { class: "chart-readout" });
  const legend = h("div", { class: "chart-legend" });
  const rows = h("div", { class: "chart-rows" });
  const details = h("details", { class: "chart-table" }, h("summary", {}, t("common.show_table")), rows);
  const probes = new Map(COLOURS.map((name) => [name, h("span", { class: `colour-${name}`, hidden: true })]));
  const title = h("h3", { class: "chart-title" });
  const button = (label, text, act) =>
    h("button", { type: "button", class: "chart-button", "aria-label": label, title: label, onclick: act }, text);
  const tools = h("div", { class: "chart-tools" },
    button(t("chart.earlier"), "←", () => move(panned(view, -0.5, bounds()))),
    button(t("chart.later"), "→", () => move(panned(view, 0.5, bounds()))),
    button(t("chart.nearer"), "+", () => nearer(0.5)),
    button(t("chart.further"), "−", () => nearer(2)),
    button(t("chart.reset"), "⤢", reset),
    button(t("common.download_csv"), "CSV", download));
  const whole = h("figure", { class: "chart" },
    h("div", { class: "chart-head" }, title, tools), readout, frame,
    h("p", { class: "chart-keys", id: `${id}-keys` }, t("chart.keys")), legend, details, ...probes.values());
  place.append(whole);

  let colours = new Map();
  const colour = (name) => {
    if (!colours.has(name)) colours.set(name, getComputedStyle(probes.get(name) ?? probes.get("accent")).color);
    return colours.get(name);
  };
  const bounds = () => data.bounds ?? extent(data);
  const least = () => LEAST_WINDOWS * data.step;

  // What hands need to know of the chart, and do to it.
  const hands = { view: () => view, bounds, least, area: () => plot?.over, move };

  function nearer(factor, about = (view.from + view.to) / 2) {
    move(zoomed(view, factor, about, bounds(), least()));
  }

  function reset() {
    move(data.home ?? extent(data));
  }

  // What the reader has chosen to see; whoever loads the data hears of it once the hand rests.
  function move(to) {
    show(to);
    clearTimeout(zooming);
    zooming = setTimeout(() => data.on_zoom?.(view.from, view.to), 200);
  }

  function show(to) {
    view = to;
    plot?.setScale("x", { min: view.from, max: view.to });
    describe();
  }

  function describe() {
    const unit = data.unit;
    const span = `${time(iso(view.from))} – ${time(iso(view.to))}`;
    const main = data.series.find((each) => each.kind !== "band" && each.kind !== "dashes") ?? data.series[0];
    const figures = main && figures_of(data.timestamps, main.values ?? main.upper, view);
    const summary = figures
      ? t("chart.summary", {
          span, latest: quantity(figures.latest, unit, data.digits), at: time(iso(figures.latest_at)),
          lowest: quantity(figures.lowest, unit, data.digits), highest: quantity(figures.highest, unit, data.digits),
        })
      : t("chart.nothing", { span });
    frame.setAttribute("aria-label", `${data.title}. ${summary}`);
    readout.removeAttribute("aria-live");
    readout.textContent = summary;
    if (details.open) fill_rows();
  }

  // The values of one instant, as text.
  function read(place, is_by_key = false) {
    const instant = data.timestamps[place];
    const parts = data.series.flatMap((each, n) => {
      if (data.hidden.has(n)) return [];
      if (each.kind !== "band") return [`${each.label} ${quantity(each.values[place], data.unit, data.digits)}`];
      const [lower, upper] = [each.lower[place], each.upper[place]];
      if (lower == null || upper == null) return [];
      return [`${each.label} ${number(lower, data.digits)} – ${quantity(upper, data.unit, data.digits)}`];
    });
    const events = data.events.filter((event) => event.from <= instant + data.step && (event.to ?? Infinity) > instant);
    if (is_by_key) readout.setAttribute("aria-live", "polite");
    readout.textContent = [time(iso(instant)), ...parts, ...events.map((event) => event.label)].join(" · ");
  }

  function draw_legend() {
    replace(legend, ...data.series.map((each, n) =>
      h("button", {
        type: "button", class: "chart-entry", "aria-pressed": String(!data.hidden.has(n)),
        onclick: (event) => {
          if (!data.hidden.delete(n)) data.hidden.add(n);
          event.currentTarget.setAttribute("aria-pressed", String(!data.hidden.has(n)));
          data.columns.forEach((column, at) => column.of === n && plot?.setSeries(at + 1, { show: !data.hidden.has(n) }));
          plot?.redraw();
        },
      }, h("span", { class: `chart-swatch swatch-${each.kind} colour-${each.colour}`, "aria-hidden": "true" }), each.label)),
      data.gaps.length ? h("span", { class: "chart-entry" }, h("span", { class: "chart-swatch swatch-gap colour-gap", "aria-hidden": "true" }), t("chart.gap")) : "",
      Object.entries(SEVERITY_COLOURS).filter(([name]) => data.events.some(({ severity }) => severity === name)).map(([name, colour_name]) =>
        h("span", { class: "chart-entry" }, h("span", { class: `chart-swatch swatch-event colour-${colour_name}`, "aria-hidden": "true" }), `${t("chart.event")}: ${t(`severity.${name}`)}`)));
  }

  function header() {
    return data.columns.map(({ of, part }) => {
      const { label } = data.series[of];
      return part === "value" ? label : `${label}, ${t(`chart.${part}`)}`;
    });
  }

  function fill_rows() {
    const [first, last] = shown(data.timestamps, view);
    const names = header();
    const listed = [];
    // The latest stands first: that is what one opens the table for.
    for (let n = last - 1; n >= first && listed.length < MOST_ROWS; n--) {
      listed.push({ instant: data.timestamps[n], ...Object.fromEntries(data.columns.map(({ values }, at) => [`c${at}`, values[n]])) });
    }
    replace(rows,
      last - first > MOST_ROWS ? h("p", {}, t("chart.first_rows", { shown: number(MOST_ROWS, 0), all: number(last - first, 0) })) : "",
      table({
        caption: `${data.title}${data.unit ? `, ${data.unit}` : ""}`,
        empty: t("chart.no_rows"),
        columns: [
          { key: "instant", label: t("chart.time"), render: (row) => time(iso(row.instant)) },
          ...names.map((label, at) => ({
            key: `c${at}`, label: data.unit ? `${label} (${data.unit})` : label, align: "right",
            render: (row) => number(row[`c${at}`], data.digits),
          })),
        ],
        rows: listed,
      }));
  }

  function download() {
    const [first, last] = shown(data.timestamps, view);
    const listed = [];
    for (let n = first; n < last; n++) {
      listed.push([iso(data.timestamps[n]), time(iso(data.timestamps[n])), ...data.columns.map(({ values }) => values[n])]);
    }
    const text = csv(["time_utc", `time ${zone()}`, ...header().map((label) => `${label} [${data.unit}]`)], listed);
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    const anchor = h("a", { href: address, download: file_name(data.title, "csv") });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  function build() {
    plot?.destroy();
    plot = null;
    title.textContent = data.unit ? `${data.title} (${data.unit})` : data.title;
    draw_legend();
    if (!data.timestamps.length) {
      replace(surface, h("p", { class: "chart-empty" }, t("chart.no_rows")));
      readout.textContent = "";
      return;
    }
    replace(surface);
    plot = new uPlot(plot_options(), [data.timestamps, ...data.columns.map(({ values }) => values)], surface);
    show(view);
  }

  function plot_options() {
    const axis = {
      stroke: () => colour("muted"), font: "12px system-ui, sans-serif",
      grid: { stroke: () => colour("line"), width: 1 }, ticks: { stroke: () => colour("line"), width: 1, size: 5 },
    };
    return {
      width: surface.clientWidth || 600,
      height: data.height,
      legend: { show: false },
      tzDate: (instant) => uPlot.tzDate(new Date(instant * 1000), zone()),
      scales: { x: { time: true, range: () => [view.from, view.to] }, y: { range: (_, low, high) => y_range(low, high, data) } },
      axes: [
        { ...axis, space: 70, values: (_, splits, __, ___, step) => tick_labels(splits, step, language() === "en" ? "en-GB" : language(), zone()) },
        { ...axis, size: 58, values: (_, splits) => splits.map((value) => number(value, decimals(splits))) },
      ],
      series: [{}, ...data.columns.map((column) => drawn(data.series[column.of], data.hidden.has(column.of), colour))],
      cursor: {
        drag: { x: true, y: false, setScale: false, dist: 6 },
        points: { size: 7 },
        bind: {
          dblclick: () => () => reset(),
          mousedown: (_, __, handler) => (event) => (event.shiftKey ? dragged(event, hands) : handler(event)),
        },
      },
      hooks: {
        drawClear: [(drawing) => beneath(drawing, data, colour)],
        draw: [(drawing) => above(drawing, data, colour)],
        setCursor: [(drawing) => (drawing.cursor.idx == null || drawing.cursor.left < 0 ? describe() : read(drawing.cursor.idx))],
        setSelect: [
          (drawing) => {
            const { left, width } = drawing.select;
            if (width < 6) return;
            const [from, to] = [drawing.posToVal(left, "x"), drawing.posToVal(left + width, "x")];
            drawing.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            const centre = (from + to) / 2;
            const half = Math.max(to - from, least()) / 2;
            move(within({ from: centre - half, to: centre + half }, bounds()));
          },
        ],
      },
    };
  }

  touched(frame, hands);

  frame.addEventListener("click", (event) => {
    if (!plot) return;
    const at = event.clientX - plot.over.getBoundingClientRect().left;
    data.events.find((each) => each.open && Math.abs(plot.valToPos(each.from, "x") - at) < 8)?.open();
  });

  let reading = null;
  function step_reading(by) {
    if (!plot) return;
    const [first, last] = shown(data.timestamps, view);
    if (last <= first) return;
    reading = Math.min(Math.max(reading === null ? (by > 0 ? first : last - 1) : reading + by, first), last - 1);
    plot.setCursor({ left: plot.valToPos(data.timestamps[reading], "x"), top: plot.over.clientHeight / 2 }, false);
    read(reading, true);
  }

  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      ArrowLeft: () => (event.shiftKey ? step_reading(-1) : move(panned(view, -0.25, bounds()))),
      ArrowRight: () => (event.shiftKey ? step_reading(1) : move(panned(view, 0.25, bounds()))),
      "+": () => nearer(0.5), "=": () => nearer(0.5), "-": () => nearer(2), 0: reset, Home: reset,
    };
    if (!acts[event.key]) return;
    acts[event.key]();
    event.preventDefault();
  });
  details.addEventListener("toggle", () => details.open && fill_rows());

  const sizes = new ResizeObserver(() => {
    const width = surface.clientWidth;
    if (plot && width && width !== plot.width) plot.setSize({ width, height: data.height });
  });
  sizes.observe(surface);
  const recolour = () => {
    colours = new Map();
    plot?.redraw();
  };
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", recolour);
  const themes = new MutationObserver(recolour);
  themes.observe(document.documentElement, { attributes: true });
  build();

  return {
    update(changes) {
      const [before, was_home] = [signature(data), view];
      const hidden = data.hidden;
      const is_whole = same(view, data.home ?? extent(data));
      data = prepared({ ...options, ...changes });
      if (before === signature(data)) data.hidden = hidden;
      view = changes.view ?? (is_whole ? data.home ?? extent(data) : was_home);
      reading = null;
      if (before !== signature(data) || !plot || !data.timestamps.length) return build();
      draw_legend();
      title.textContent = data.unit ? `${data.title} (${data.unit})` : data.title;
      plot.setData([data.timestamps, ...data.columns.map(({ values }) => values)], false);
      show(view);
    },
    show(from, to) {
      show({ from, to });
    },
    view: () => view,
    destroy() {
      clearTimeout(zooming);
      sizes.disconnect();
      themes.disconnect();
      scheme.removeEventListener("change", recolour);
      plot?.destroy();
      whole.remove();
    },
  };
}
