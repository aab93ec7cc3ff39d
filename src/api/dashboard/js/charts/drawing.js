// What uPlot does not draw: gaps, bands, events and thresholds, beneath and above its lines.

import { known_runs, lonely } from "./figures.js";

export const SEVERITY_COLOURS = { critical: "bad", warning: "warn", info: "info" };

// Runs a drawing within the plot's area; the canvas is as it was afterwards.
function clipped(plot, draw) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx, bbox, devicePixelRatio);
  ctx.restore();
}

// Gaps hatched, events tinted, bands filled: before axes and lines are drawn.
export function beneath(plot, { timestamps, series, gaps, events, hidden }, colour) {
  clipped(plot, (ctx, bbox, ratio) => {
    const x = (instant) => plot.valToPos(instant, "x", true);
    const y = (value) => plot.valToPos(value, "y", true);
    for (const gap of gaps) hatch(ctx, bbox, x(gap.from), x(gap.to), colour("gap"), ratio);
    for (const event of events) {
      ctx.globalAlpha = 0.09;
      ctx.fillStyle = colour(SEVERITY_COLOURS[event.severity] ?? "info");
      const from = Math.max(x(event.from), bbox.left - 1);
      const to = event.to == null ? bbox.left + bbox.width : x(event.to);
      ctx.fillRect(from, bbox.top, Math.max(to - from, ratio), bbox.height);
    }
    ctx.globalAlpha = 0.2;
    series.forEach((each, n) => {
      if (each.kind !== "band" || hidden.has(n)) return;
      ctx.fillStyle = colour(each.colour);
      for (const [first, last] of known_runs(each.lower, each.upper)) {
        ctx.beginPath();
        for (let place = first; place <= last; place++) ctx.lineTo(x(timestamps[place]), y(each.upper[place]));
        for (let place = last; place >= first; place--) ctx.lineTo(x(timestamps[place]), y(each.lower[place]));
        // A band of a single window would have no width.
        if (first === last) {
          const [left, top] = [x(timestamps[first]) - 2 * ratio, y(each.upper[first])];
          ctx.rect(left, top, 4 * ratio, y(each.lower[first]) - top);
        }
        ctx.fill();
      }
    });
  });
}

function hatch(ctx, bbox, from, to, colour, ratio) {
  const [left, right] = [Math.max(from, bbox.left), Math.min(to, bbox.left + bbox.width)];
  if (right <= left) return;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, bbox.top, Math.max(right - left, ratio), bbox.height);
  ctx.clip();
  ctx.fillStyle = ctx.strokeStyle = colour;
  ctx.globalAlpha = 0.35;
  ctx.fillRect(left, bbox.top, Math.max(right - left, ratio), bbox.height);
  ctx.globalAlpha = 0.9;
  ctx.lineWidth = ratio;
  ctx.beginPath();
  for (let start = left - bbox.height; start < right; start += 8 * ratio) {
    ctx.moveTo(start, bbox.top + bbox.height);
    ctx.lineTo(start + bbox.height, bbox.top);
  }
  ctx.stroke();
  ctx.restore();
}

// Values that stand alone, the beginnings of events, thresholds: over the lines.
export function above(plot, { timestamps, series, events, marks, hidden }, colour) {
  clipped(plot, (ctx, bbox, ratio) => {
    const x = (instant) => plot.valToPos(instant, "x", true);
    const y = (value) => plot.valToPos(value, "y", true);
    series.forEach((each, n) => {
      if (hidden.has(n) || !["line", "dashes", "steps"].includes(each.kind)) return;
      ctx.fillStyle = colour(each.colour);
      for (const place of lonely(each.values)) {
        ctx.beginPath();
        ctx.arc(x(timestamps[place]), y(each.values[place]), 2 * ratio, 0, 2 * Math.PI);
        ctx.fill();
      }
    });
    ctx.lineWidth = 2 * ratio;
    for (const event of events) {
      const at = x(event.from);
      ctx.strokeStyle = ctx.fillStyle = colour(SEVERITY_COLOURS[event.severity] ?? "info");
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at + 9 * ratio, bbox.top + 5 * ratio);
      ctx.lineTo(at, bbox.top + 10 * ratio);
      ctx.fill();
    }
    ctx.lineWidth = 1.5 * ratio;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    for (const mark of marks) {
      const at = y(mark.value);
      const from = mark.from == null ? bbox.left : Math.max(x(mark.from), bbox.left);
      const to = mark.to == null ? bbox.left + bbox.width : Math.min(x(mark.to), bbox.left + bbox.width);
      if (to <= from) continue;
      ctx.strokeStyle = ctx.fillStyle = colour(mark.colour);
      ctx.beginPath();
      ctx.moveTo(from, at);
      ctx.lineTo(to, at);
      ctx.stroke();
      ctx.textAlign = "left";
      ctx.textBaseline = mark.is_below || at < bbox.top + 16 * ratio ? "top" : "bottom";
      // A short level at the right edge keeps its whole label.
      const edge = bbox.left + bbox.width - ctx.measureText(mark.label).width - 4 * ratio;
      ctx.fillText(mark.label, Math.min(from + 4 * ratio, edge), at + (ctx.textBaseline === "top" ? 2 : -2) * ratio);
    }
  });
}
