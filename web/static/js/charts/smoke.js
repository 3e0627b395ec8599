// Spread and loss of one line, as SmokePing draws them: nested bands up from the smallest value, the middle coloured by loss.
import { colour, faded } from "./format.js";
import { lineOf } from "./lines.js";

// Upper bound of each class in percent, its colour and its words; the square grows with the loss.
export const LOSS = [
  { to: 0, colour: "series-1", word: "no loss", size: 2 },
  { to: 5, colour: "series-4", word: "up to 5 %", size: 2.6 },
  { to: 20, colour: "series-2", word: "up to 20 %", size: 3.2 },
  { to: 60, colour: "series-3", word: "up to 60 %", size: 3.8 },
  { to: 100, colour: "failed", word: "more", size: 4.4 },
];

export const lossClass = (percent) => LOSS.find((one) => percent <= one.to) ?? LOSS.at(-1);

// `plan` names the metrics: `low`, `center`, `tops` from the largest to the smallest, and `loss`, which may be missing.
export function smokeOf(series, plan) {
  const low = lineOf(series, plan.low);
  const tops = plan.tops.map((name) => lineOf(series, name));
  return {
    center: { ...lineOf(series, plan.center), low: low.low, high: tops[0].high },
    low: low.value,
    tops: tops.map((top) => top.value),
    loss: plan.loss ? lineOf(series, plan.loss).value : [],
  };
}

export function drawBands(plot, smoke) {
  const { ctx } = plot;
  const times = smoke.center.t;
  ctx.save();
  ctx.fillStyle = faded("ink-soft", 16);
  for (const top of smoke.tops) {
    for (const [begin, end] of stretches(times, smoke.low, top)) {
      ctx.beginPath();
      for (let index = begin; index <= end; index += 1) ctx.lineTo(plot.valToPos(times[index], "x", true), plot.valToPos(top[index], "y", true));
      for (let index = end; index >= begin; index -= 1) ctx.lineTo(plot.valToPos(times[index], "x", true), plot.valToPos(smoke.low[index], "y", true));
      ctx.closePath();
      ctx.fill();
    }
  }
  ctx.restore();
}

export function drawLoss(plot, smoke) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio || 1;
  ctx.save();
  smoke.center.t.forEach((time, index) => {
    const value = smoke.center.value[index];
    const x = plot.valToPos(time, "x", true);
    if (value === null || x < bbox.left || x > bbox.left + bbox.width) return;
    const { colour: name, size } = lossClass(smoke.loss[index] ?? 0);
    const y = plot.valToPos(value, "y", true);
    ctx.fillStyle = colour(name);
    ctx.fillRect(x - size * ratio, y - size * ratio, 2 * size * ratio, 2 * size * ratio);
  });
  ctx.restore();
}

// What the squares mean, as entries of the legend.
export function lossLegend() {
  return LOSS.map((one) => {
    const item = document.createElement("li");
    const square = document.createElement("i");
    square.className = "loss-square";
    square.dataset.loss = String(one.to);
    item.className = "loss-class";
    item.append(square, one.word);
    return item;
  });
}

// First and last index of each stretch in which both edges are known.
function stretches(times, low, top) {
  const found = [];
  let begin = null;
  for (let index = 0; index <= times.length; index += 1) {
    const known = index < times.length && low[index] !== null && top[index] !== null;
    if (known && begin === null) begin = index;
    if (!known && begin !== null) {
      found.push([begin, index - 1]);
      begin = null;
    }
  }
  return found;
}
