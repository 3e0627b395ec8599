// One chart: a group of metrics with one unit, drawn by uPlot, with legend, read-out, summary and table.
import { clock, colour, faded, number, quantity, timeTicks, wall } from "./format.js";
import { lineOf, silences } from "./lines.js";
import { alone, COLOURS, countAt, drawSilence, element, extent, nearest, shape, swatch, total } from "./parts.js";
import { drawBands, drawLoss, lossLegend, smokeOf } from "./smoke.js";

// Value of the choice that draws spread and loss instead of lines.
const SMOKE = "*smoke";

const DASHES = [[], [6, 4], [2, 3]];
const TABLE_ROWS = 60;
// Times without due runs that a summary names: the latest.
const QUIET_WORDS = 3;
const MARKS = [
  { field: "missed", colour: "missed", word: "missed" },
  { field: "error", colour: "error", word: "could not be measured" },
  { field: "failed", colour: "failed", word: "failed" },
];

export class Panel {
  // `lack` is called when the data that are drawn do not have what was chosen.
  constructor(element, board, lack) {
    this.element = element;
    this.board = board;
    this.lack = lack;
    this.config = JSON.parse(element.dataset.group);
    this.place = element.querySelector(".plot");
    this.note = element.querySelector("[data-note]");
    this.readout = element.querySelector(".readout");
    this.legend = element.querySelector(".chart-legend");
    this.summary = element.querySelector("[data-summary]");
    this.table = element.querySelector("details");
    this.chooser = element.querySelector("select");
    this.hidden = new Set();
    this.plot = null;
    this.lines = [];
    this.series = [];
    this.runs = [];
    this.operations = [];
    this.chooser?.addEventListener("change", () => {
      if (this.lacks()) this.lack();
      else this.draw(this.series, this.step, this.operations, this.runs);
    });
    this.table?.addEventListener("toggle", () => this.drawTable());
    this.place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(this.place);
  }

  get open() {
    return this.element.closest("details:not([open])") === null;
  }

  // With one series every metric of the group is a line; with several, one metric at a time is compared.
  chosen(count) {
    const names = this.config.metrics.map((metric) => metric.name);
    if (!this.chooser) return names;
    for (const value of ["", SMOKE]) {
      const option = this.chooser.querySelector(`option[value='${value}']`);
      if (option) option.disabled = count > 1;
      if (count > 1 && this.chooser.value === value) this.chooser.value = this.config.first;
    }
    if (this.chooser.value === SMOKE) return [this.config.smoke.center];
    return this.chooser.value === "" ? names : [this.chooser.value];
  }

  // What is to be asked for: the metrics of the lines, and those that bands and colours are drawn of.
  needed(count) {
    const names = this.chosen(count);
    if (this.chooser?.value !== SMOKE) return names;
    const { low, tops, loss } = this.config.smoke;
    return [...names, low, ...tops, ...(loss ? [loss] : [])];
  }

  // Whether any of the series came without a metric that is to be drawn.
  lacks() {
    const names = this.needed(this.series.length);
    return this.series.some((one) => names.some((name) => !(name in one.metrics)));
  }

  // Lines are drawn of `series`; how runs ended is marked once for each of `runs`, whatever the number of their lines.
  draw(series, step, operations = this.operations, runs = series) {
    this.series = series;
    this.runs = runs;
    this.step = step;
    this.operations = operations;
    if (!this.open) return;
    const metrics = this.chosen(series.length);
    const lines = [];
    for (const one of series) {
      for (const name of metrics) {
        const metric = this.config.metrics.find((item) => item.name === name);
        const label = series.length > 1 ? one.label : metric.label;
        lines.push({ key: `${one.id} ${name}`, label, metric, ...lineOf(one, name) });
      }
    }
    this.smoke = this.chooser?.value === SMOKE && series.length ? smokeOf(series[0], this.config.smoke) : null;
    if (this.smoke && lines.length) Object.assign(lines[0], this.smoke.center, { key: `${lines[0].key} ${SMOKE}` });
    // A metric that nobody measured gives no line, unless nothing at all was.
    const measured = lines.filter((line) => line.value.some((value) => value !== null));
    this.note.hidden = measured.length > 0;
    this.note.textContent = runs.some((one) => one.t.length) ? "Not measured in this range" : "No results in this range";
    const same = this.plot && measured.map((line) => line.key).join() === this.lines.map((line) => line.key).join();
    this.lines = measured.map((line, index) => ({ ...line, index }));
    this.quiet = silences(runs, this.board.from / 1000, this.board.to / 1000);
    this.drawLegend(same);
    if (!same) this.make();
    else this.plot.setData(this.data(), false);
    this.scale();
    this.describe();
    if (this.table?.open) this.drawTable();
  }

  data() {
    if (!this.lines.length) return [[this.board.from / 1000, this.board.to / 1000]];
    return uPlot.join(this.lines.map((line) => [line.t, line.value, line.low, line.high]));
  }

  make() {
    this.plot?.destroy();
    const banded = this.step > 0;
    const bands = [];
    const series = [{}];
    for (const line of this.lines) {
      const name = `series-${(line.index % COLOURS) + 1}`;
      const at = series.length;
      const shared = { show: !this.hidden.has(line.key), spanGaps: false };
      series.push({
        ...shared, label: line.label, stroke: colour(name), width: 1.75, dash: DASHES[Math.floor(line.index / COLOURS) % DASHES.length],
        points: { show: true, size: 4, fill: colour(name), width: 0, filter: (plot, index, show, gaps) => alone(plot.data[index]) },
      });
      const edge = { ...shared, stroke: "transparent", width: 0, points: { show: false } };
      series.push({ ...edge, label: `${line.label} low` }, { ...edge, label: `${line.label} high` });
      if (banded && !this.smoke) bands.push({ series: [at + 2, at + 1], fill: faded(name, 20) });
    }
    const axis = {
      stroke: colour("ink-faint"), font: "12px Geist, system-ui, sans-serif", ticks: { show: false },
      grid: { stroke: faded("line", 70), width: 1 },
    };
    this.plot = new uPlot(
      {
        ...this.size(),
        padding: [14, 22, 0, 0],
        legend: { show: false },
        tzDate: wall,
        cursor: {
          sync: { key: "charts", setSeries: false },
          drag: { x: true, y: false, setScale: false, dist: 6 },
          dataIdx: (plot, index, hovered) => nearest(plot.data[index], hovered),
          points: { size: 7 },
        },
        scales: { x: { time: true }, y: { range: (plot, low, high) => extent(low, high, this.config.unit) } },
        axes: [
          { ...axis, size: 30, space: 84, values: (plot, splits, at, space, increment) => timeTicks(splits, increment) },
          { ...axis, size: 62, values: (plot, splits) => splits.map((value) => this.tick(value)) },
        ],
        series,
        bands,
        hooks: {
          drawClear: [(plot) => drawSilence(plot, this.quiet), (plot) => this.smoke && drawBands(plot, this.smoke)],
          draw: [
            (plot) => this.drawOperations(plot),
            (plot) => this.smoke && drawLoss(plot, this.smoke),
            (plot) => this.drawMarks(plot),
          ],
          setCursor: [(plot) => this.read(plot)],
          setSelect: [(plot) => this.select(plot)],
        },
      },
      this.data(),
      this.place,
    );
    this.plot.over.addEventListener("mousedown", () => {
      this.board.dragged = this;
    });
    this.plot.over.addEventListener("dblclick", () => this.board.follow());
  }

  tick(value) {
    if (this.config.unit.startsWith("By")) return quantity(value, this.config.unit);
    return number(value).replace(/([.,])(\d*?)0+$/, (match, point, digits) => (digits ? `${point}${digits}` : ""));
  }

  size() {
    return { width: Math.max(200, this.place.clientWidth - 16), height: this.element.matches(".chart-main") ? 320 : 216 };
  }

  resize() {
    if (this.plot && this.open) this.plot.setSize(this.size());
  }

  scale() {
    this.plot?.setScale("x", { min: this.board.from / 1000, max: this.board.to / 1000 });
  }

  restyle() {
    if (this.plot) this.make();
    this.scale();
  }

  // A band from beginning to end with its name, so that a step in a line can be told from a change of the network.
  drawOperations(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.font = `${11 * ratio}px Geist, system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    for (const operation of this.operations) {
      const from = plot.valToPos(operation.from / 1000, "x", true);
      const to = plot.valToPos((operation.to ?? this.board.now) / 1000, "x", true);
      const left = Math.max(bbox.left, from);
      const right = Math.min(bbox.left + bbox.width, Math.max(to, from + 2 * ratio));
      if (right <= left) continue;
      ctx.fillStyle = faded("stream", 18);
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
      ctx.fillStyle = colour("ink-soft");
      const last = bbox.left + bbox.width - ctx.measureText(operation.label).width;
      ctx.fillText(operation.label, Math.max(bbox.left, Math.min(left + 4 * ratio, last)), bbox.top + 3 * ratio);
    }
    ctx.restore();
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio || 1;
    const size = 4.5 * ratio;
    ctx.save();
    for (const mark of MARKS) {
      if (!this.runs.some((one) => one[mark.field].length)) continue;
      ctx.fillStyle = colour(mark.colour);
      ctx.strokeStyle = faded(mark.colour, 45);
      ctx.lineWidth = ratio;
      for (const one of this.runs) {
        one.t.forEach((milliseconds, index) => {
          if (!one[mark.field][index]) return;
          const x = plot.valToPos(milliseconds / 1000, "x", true);
          if (x < bbox.left || x > bbox.left + bbox.width) return;
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
          shape(ctx, mark.field, x, bbox.top - size * 1.1, size);
        });
      }
    }
    this.drawEvents(plot, size);
    ctx.restore();
  }

  // What happened that is no failure, such as a path that changed: a dashed line with a ring on it.
  drawEvents(plot, size) {
    const { ctx, bbox } = plot;
    ctx.strokeStyle = colour("ink-soft");
    for (const { t } of this.runs.flatMap((one) => one.events ?? [])) {
      const x = plot.valToPos(t / 1000, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.setLineDash([size, size * 0.7]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.arc(x, bbox.top - size * 1.1, size * 0.8, 0, 2 * Math.PI);
      ctx.stroke();
    }
  }

  // How often each event happened from an instant on and before another, in milliseconds, as words.
  eventWords(from, to) {
    const counts = new Map();
    for (const { t, event, count } of this.runs.flatMap((one) => one.events ?? [])) {
      if (t >= from && t < to) counts.set(event, (counts.get(event) ?? 0) + (count ?? 1));
    }
    return [...counts].map(([event, count]) => (count === 1 ? event : `${event} ${count} times`));
  }

  read(plot) {
    const { idx, left, top } = plot.cursor;
    const inside = idx !== null && idx !== undefined && left >= 0 && this.lines.length > 0;
    this.readout.hidden = !inside || (top < 0 && document.activeElement !== this.place);
    if (this.readout.hidden) return;
    const at = plot.data[0][idx];
    this.readout.replaceChildren(element("time", clock(at, { withDate: true })));
    for (const line of this.lines) {
      if (this.hidden.has(line.key)) continue;
      const index = plot.cursor.idxs[line.index * 3 + 1] ?? idx;
      const value = plot.data[line.index * 3 + 1][index];
      const row = element("div");
      row.append(swatch(line.index), element("span", line.label), element("b", quantity(value, this.config.unit)));
      this.readout.append(row);
    }
    for (const mark of MARKS) {
      const count = this.runs.reduce((sum, one) => sum + countAt(one, mark.field, at * 1000, this.step), 0);
      if (count) this.readout.append(element("time", `${count === 1 ? "" : `${count} `}${mark.word}`));
    }
    const half = Math.max(this.step / 2, 0.5);
    for (const words of this.eventWords(at * 1000 - half, at * 1000 + half)) this.readout.append(element("time", words));
    // The plot knows its width; to ask the page for it would lay it out anew with every move of the pointer.
    const onLeft = left > plot.width / 2;
    this.readout.style.left = onLeft ? "4.6rem" : "auto";
    this.readout.style.right = onLeft ? "auto" : "1rem";
  }

  select(plot) {
    const { left, width } = plot.select;
    if (width < 6) return;
    if (this.board.dragged === this) this.board.zoom(plot.posToVal(left, "x") * 1000, plot.posToVal(left + width, "x") * 1000);
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  key(event) {
    if (!this.plot) return;
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      const times = this.plot.data[0];
      const now = this.plot.cursor.idx ?? times.length - 1;
      const next = Math.max(0, Math.min(times.length - 1, now + moves[event.key]));
      this.plot.setCursor({ left: this.plot.valToPos(times[next], "x"), top: 10 });
    } else if (event.key === "+" || event.key === "-") this.board.magnify(event.key === "+" ? 0.5 : 2);
    else if (event.key === "Escape") this.board.follow();
    else return;
    event.preventDefault();
  }

  drawLegend(same) {
    const latest = (line) => line.value.findLast((value) => value !== null);
    if (same) {
      this.lines.forEach((line, index) => {
        this.legend.children[index].querySelector("b").textContent = quantity(latest(line), this.config.unit);
      });
      return;
    }
    this.legend.replaceChildren(
      ...this.lines.map((line) => {
        const button = element("button");
        button.type = "button";
        button.title = line.metric.description;
        button.setAttribute("aria-pressed", String(!this.hidden.has(line.key)));
        button.append(swatch(line.index), element("span", line.label), element("b", quantity(latest(line), this.config.unit)));
        button.addEventListener("click", () => this.toggle(line, button));
        const item = element("li");
        item.append(button);
        return item;
      }),
      ...(this.smoke ? lossLegend() : []),
    );
  }

  toggle(line, button) {
    const show = this.hidden.has(line.key);
    if (show) this.hidden.delete(line.key);
    else this.hidden.add(line.key);
    button.setAttribute("aria-pressed", String(show));
    for (const offset of [1, 2, 3]) this.plot.setSeries(line.index * 3 + offset, { show });
  }

  describe() {
    const unit = this.config.unit;
    const runs = this.runs.reduce((sum, one) => sum + one.t.length, 0);
    const parts = this.lines.slice(0, 3).map((line) => {
      const values = line.value.filter((value) => value !== null);
      const low = Math.min(...line.low.filter((value) => value !== null));
      const high = Math.max(...line.high.filter((value) => value !== null));
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return `${line.label}: ${quantity(low, unit)} to ${quantity(high, unit)}, mean ${quantity(mean, unit)}.`;
    });
    const losses = this.smoke?.loss.filter((value) => value !== null) ?? [];
    if (losses.length) parts.push(`Loss: at most ${quantity(Math.max(...losses), "%")}, mean ${quantity(total(losses) / losses.length, "%")}.`);
    if (this.lines.length > 3) parts.push(`And ${this.lines.length - 3} more.`);
    const bad = MARKS.map((mark) => [this.runs.reduce((sum, one) => sum + total(one[mark.field]), 0), mark.word]);
    const trouble = bad.filter(([count]) => count).map(([count, word]) => `${count} ${word}`);
    if (trouble.length) parts.push(`Runs: ${trouble.join(", ")}.`);
    const lacking = (this.quiet ?? []).map(([begin, end]) => `${clock(begin, { withDate: true })} to ${clock(end, { withDate: true })}`);
    const more = lacking.length > QUIET_WORDS ? ` and ${lacking.length - QUIET_WORDS} more` : "";
    if (lacking.length) parts.push(`Runs were due and none came: ${lacking.slice(-QUIET_WORDS).join(", ")}${more}.`);
    parts.push(...this.eventWords(this.board.from, this.board.to).map((words) => `${words}.`));
    this.summary.textContent = parts.join(" ");
  }

  drawTable() {
    if (!this.table?.open || !this.lines.length) return;
    const head = element("tr");
    head.append(element("th", "Time"), ...this.lines.map((line) => element("th", line.label)));
    for (const cell of head.children) cell.scope = "col";
    const data = this.data();
    const rows = [];
    for (let index = data[0].length - 1; index >= 0 && rows.length < TABLE_ROWS; index -= 1) {
      const cells = this.lines.map((line) => data[line.index * 3 + 1][index]);
      if (cells.every((value) => value === null || value === undefined)) continue;
      const row = element("tr");
      row.append(element("td", clock(data[0][index], { withDate: true })));
      for (const value of cells) row.append(element("td", quantity(value, this.config.unit)));
      for (const cell of [...row.children].slice(1)) cell.className = "numeric";
      rows.push(row);
    }
    this.table.querySelector("thead").replaceChildren(head);
    this.table.querySelector("tbody").replaceChildren(...rows);
  }
}

// Names of the metrics that open charts draw with so many series.
export function metricsOf(panels, count) {
  return [...new Set(panels.filter((panel) => panel.open).flatMap((panel) => panel.needed(count)))].join(",");
}
