// Small things that charts are made of: elements, counts at an instant, ranges of axes, shapes of marks, what is drawn behind lines.
import { faded } from "./format.js";

export const COLOURS = 8;

export function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function swatch(index) {
  const made = element("i");
  made.className = "swatch";
  made.dataset.series = String((index % COLOURS) + 1);
  return made;
}

export const total = (counts) => counts.reduce((sum, count) => sum + (count || 0), 0);

export function countAt(series, field, milliseconds, step) {
  if (!series[field].length) return 0;
  const index = series.t.findIndex((t) => Math.abs(t - milliseconds) <= step / 2);
  return index < 0 ? 0 : series[field][index] || 0;
}

// Indices of values without neighbours: a line of one point would not be seen.
export function alone(values) {
  const known = (value) => value !== null && value !== undefined;
  const found = [];
  let before = false;
  for (let index = 0; index < values.length; index += 1) {
    if (values[index] === undefined) continue;
    let after = index + 1;
    while (after < values.length && values[after] === undefined) after += 1;
    if (known(values[index]) && !before && !known(values[after])) found.push(index);
    before = known(values[index]);
  }
  return found;
}

// The nearest run of this series: the time line is shared by several.
export function nearest(values, index) {
  for (let distance = 0; distance < 60; distance += 1) {
    if (values[index - distance] !== undefined && index - distance >= 0) return index - distance;
    if (values[index + distance] !== undefined && index + distance < values.length) return index + distance;
  }
  return index;
}

export function extent(low, high, unit) {
  if (low === null || high === null) return [0, 1];
  if (unit === "%") return [Math.min(0, low), high <= 0 ? 5 : Math.min(100, high * 1.15)];
  if (low >= 0 && low <= high * 0.6) return [0, high > 0 ? high * 1.12 : 1];
  return uPlot.rangeNum(low, high, 0.2, true);
}

export function shape(ctx, field, x, y, size) {
  ctx.beginPath();
  if (field === "failed") {
    ctx.moveTo(x, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.lineTo(x - size, y + size);
  } else if (field === "error") {
    ctx.moveTo(x, y - size * 1.15);
    ctx.lineTo(x + size * 1.15, y);
    ctx.lineTo(x, y + size * 1.15);
    ctx.lineTo(x - size * 1.15, y);
  } else ctx.rect(x - size * 0.7, y - size * 0.3, size * 1.4, size * 0.6);
  ctx.closePath();
  ctx.fill();
}

// Shades the spans, in seconds, in which runs were due and none came.
export function drawSilence(plot, quiet) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = faded("missed", 12);
  for (const [from, to] of quiet) {
    const left = Math.max(bbox.left, plot.valToPos(from, "x", true));
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(to, "x", true));
    if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
  }
  ctx.restore();
}
