// Mouse and fingers on a chart. `hands`: {view(), bounds(), least(), area() the plotted element, move(view)}.

import { panned, zoomed } from "./figures.js";

// Shift and drag moves what is shown.
export function dragged({ clientX: start }, { view, bounds, area, move }) {
  const began = view();
  const follow = (event) => move(panned(began, (start - event.clientX) / area().clientWidth, bounds()));
  const end = () => {
    removeEventListener("mousemove", follow);
    removeEventListener("mouseup", end);
  };
  addEventListener("mousemove", follow);
  addEventListener("mouseup", end);
}

// Two fingers zoom, one moves sideways; up and down scrolls the page.
export function touched(frame, { view, bounds, least, area, move }) {
  let start = { at: [], view: view() };
  const fingers = (event) => [...event.touches].map((touch) => touch.clientX);
  const restart = (event) => (start = { at: fingers(event), view: view() });
  frame.addEventListener("touchstart", restart, { passive: true });
  frame.addEventListener("touchend", restart, { passive: true });
  frame.addEventListener("touchmove", (event) => {
    const [before, after] = [start.at, fingers(event)];
    if (!area() || !after.length || before.length !== after.length) return;
    const width = area().clientWidth;
    if (after.length === 1) {
      move(panned(start.view, (before[0] - after[0]) / width, bounds()));
      return;
    }
    const factor = Math.max(Math.abs(before[0] - before[1]), 10) / Math.max(Math.abs(after[0] - after[1]), 10);
    const middle = ((before[0] + before[1]) / 2 - area().getBoundingClientRect().left) / width;
    move(zoomed(start.view, factor, start.view.from + middle * (start.view.to - start.view.from), bounds(), least()));
    event.preventDefault();
  }, { passive: false });
}
