// All charts of a test: one range, one set of data, kept current by live events.
import { clock } from "./format.js";
import { merge } from "./lines.js";
import { Panel, metricsOf } from "./panel.js";
import { Rows } from "./rows.js";

// Points come late now and then (a worker's spool drains): the last seconds are asked for again.
const OVERLAP_MS = 15000;
const WHOLE_EVERY_MS = 60000;
// A frame that has not come by then does not come.
const UNSEEN_MS = 200;

class Board {
  constructor(root) {
    this.root = root;
    this.url = root.dataset.charts;
    this.test = Number(root.dataset.test);
    // How many lines there will be, as far as the page knows.
    this.lines = Number(root.dataset.lines);
    this.skew = 0;
    this.range = Number(root.querySelector("[data-range][aria-pressed='true']").dataset.range) * 1000;
    this.zoomed = null;
    this.series = [];
    this.operations = [];
    this.step = 0;
    this.lastWhole = 0;
    this.loading = null;
    this.again = null;
    // The chart in which somebody began to drag: the others follow its pointer, and would zoom as well.
    this.dragged = null;
    this.timer = null;
    this.span = root.querySelector("[data-span]");
    this.back = root.querySelector("[data-follow]");
    this.trouble = root.querySelector("[data-trouble]");
    this.cut = root.querySelector("[data-cut]");
    this.cutEvents = root.querySelector("[data-cut-events]");
    this.done = root.querySelector("[data-operation-marks]");
    this.panels = [...root.querySelectorAll(".chart:not([data-rows] .chart)")].map((element) => new Panel(element, this, () => this.load()));
    this.rows = [...root.querySelectorAll("[data-rows]")].map((element) => new Rows(element, this));

    for (const button of root.querySelectorAll("[data-range]")) {
      button.addEventListener("click", () => {
        this.range = Number(button.dataset.range) * 1000;
        this.follow();
      });
    }
    this.back.addEventListener("click", () => this.follow());
    root.querySelectorAll("[data-magnify]").forEach((button) =>
      button.addEventListener("click", () => this.magnify(Number(button.dataset.magnify))),
    );
    root.querySelector("details.more:not([data-rows], [data-rows] *)")?.addEventListener("toggle", (event) => {
      if (event.target === event.currentTarget) this.load();
    });
    document.addEventListener("streamswarm:results", ({ detail }) => {
      if (!detail.tests || detail.tests.includes(this.test)) this.fresh(detail.tests === null);
    });
    document.addEventListener("streamswarm:theme", () => requestAnimationFrame(() => this.all.forEach((panel) => panel.restyle())));
    document.fonts?.ready.then(() => this.all.forEach((panel) => panel.restyle()));
    setInterval(() => this.advance(), 1000);
    // What is exported is what is shown, at the moment of the click.
    for (const shown of document.querySelectorAll("[data-csv]")) {
      shown.addEventListener("click", ({ currentTarget: link }) => {
        const query = new URLSearchParams(link.search);
        query.set("from", new Date(this.from).toISOString());
        query.set("to", new Date(this.to).toISOString());
        link.search = String(query);
      });
    }
    this.load();
  }

  get all() {
    return [...this.panels, ...this.rows.flatMap((rows) => rows.panels)];
  }

  get now() {
    return Date.now() + this.skew;
  }

  get from() {
    return this.zoomed ? this.zoomed[0] : this.now - this.range;
  }

  get to() {
    return this.zoomed ? this.zoomed[1] : this.now;
  }

  advance() {
    if (this.zoomed || document.hidden) return;
    this.all.forEach((panel) => panel.scale());
  }

  follow() {
    this.zoomed = null;
    this.load();
  }

  zoom(from, to) {
    this.zoomed = [from, Math.max(from + 2000, to)];
    this.load();
  }

  magnify(factor) {
    const { from, to } = this;
    const middle = this.zoomed ? (from + to) / 2 : to - ((to - from) * Math.min(1, factor)) / 2;
    const half = ((to - from) * factor) / 2;
    this.zoom(middle - half, Math.min(middle + half, this.now));
  }

  // A live event: short ranges add the newest points, long ones are drawn anew now and then.
  fresh(whole) {
    if (this.zoomed && this.zoomed[1] < this.now - OVERLAP_MS) return;
    if (this.timer) return;
    const pace = this.step ? Math.max(5000, Math.min(this.step, 60000)) : 900;
    const wait = whole ? 0 : Math.max(0, (this.last ?? 0) + pace - Date.now());
    this.timer = setTimeout(() => {
      this.timer = null;
      if (document.hidden) return;
      if (whole || this.step || this.zoomed || Date.now() - this.lastWhole > WHOLE_EVERY_MS) this.load();
      else this.load(true);
    }, wait);
  }

  async load(onlyNew = false) {
    this.show();
    // What is known of another range is seen at once, if coarsely; the rest comes with the answer.
    if (!onlyNew) this.all.forEach((panel) => panel.scale());
    if (this.loading) {
      // One request at a time; what was asked meanwhile is asked once more in full.
      this.again = true;
      return;
    }
    if (!onlyNew && this.series.length) {
      // First what is known: on a small machine the server's work and the drawing would be in each other's way.
      this.loading = painted();
      await this.loading;
    }
    const { from, to } = this;
    const newest = Math.max(0, ...this.series.map((one) => one.t.at(-1) ?? 0));
    const partial = onlyNew && newest > from;
    const since = Math.floor(partial ? newest - OVERLAP_MS : from);
    const query = new URLSearchParams({
      from: String(since),
      to: String(Math.ceil(this.zoomed ? to : to + 5000)),
      metrics: metricsOf(this.panels, this.series.length || this.lines),
    });
    if (partial) query.set("step", "0");
    this.loading = fetch(`${this.url}${this.url.includes("?") ? "&" : "?"}${query}`, { headers: { Accept: "application/json" } });
    this.last = Date.now();
    try {
      const response = await this.loading;
      if (response.redirected || response.status === 401) {
        location.reload();
        return;
      }
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      const data = await response.json();
      this.skew = data.now - Date.now();
      this.series = partial ? merge(this.series, data.series, from, since) : data.series;
      if (partial) this.operations = joined(this.operations, data.operations);
      this.cut.hidden = data.lines <= data.series.length;
      this.cut.textContent = `${data.series.length} of ${data.lines} pairs of worker and destination are drawn, the first by name.`;
      if (!partial) {
        this.cutEvents.hidden = data.events_from === null;
        const begin = clock((data.events_from ?? 0) / 1000, { withDate: true });
        this.cutEvents.textContent = `Events before ${begin} are not marked: there are too many. A shorter range shows them.`;
        this.operations = data.operations;
        this.step = data.step;
        this.lastWhole = Date.now();
      }
      this.trouble.hidden = true;
      this.rows.forEach((rows) => (partial ? rows.follow() : rows.load()));
    } catch (error) {
      this.complain(error);
    } finally {
      this.loading = null;
    }
    this.draw();
    // More or fewer lines came than were there before, and so other metrics are drawn than were asked for.
    if (this.panels.some((panel) => panel.open && panel.lacks())) this.again = true;
    if (this.again) {
      this.again = null;
      this.load();
    }
  }

  complain(error) {
    this.trouble.hidden = false;
    this.trouble.querySelector("span").textContent = `New results could not be fetched: ${error.message}. Trying again.`;
    // One attempt for all that has failed: each that began its own would fail again, and begin more.
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.load(), 5000);
  }

  draw() {
    const shown = this.panels.filter((panel) => panel.open);
    shown.forEach((panel) => panel.draw(this.series, this.step, this.operations));
    this.drawOperations();
    this.root.dataset.points = String(this.series.reduce((sum, one) => sum + one.t.length, 0));
  }

  // What charts mark by lines stands above them as links, for those too who do not see lines.
  drawOperations() {
    this.done.hidden = this.operations.length === 0;
    const links = this.operations.flatMap((operation, index) => {
      const link = document.createElement("a");
      link.href = operation.url;
      link.textContent = operation.label;
      return [index ? ", " : "", link, ` (${operation.state}, ${clock(operation.from / 1000, { withDate: true })})`];
    });
    this.done.querySelector("span").replaceChildren(...links);
  }

  show() {
    for (const button of this.root.querySelectorAll("[data-range]")) {
      button.setAttribute("aria-pressed", String(!this.zoomed && Number(button.dataset.range) * 1000 === this.range));
    }
    this.back.hidden = !this.zoomed;
    const options = { withDate: this.to - this.from > 12 * 3600e3 || Boolean(this.zoomed) };
    this.span.textContent = this.zoomed ? `${clock(this.from / 1000, options)} – ${clock(this.to / 1000, options)}` : "";
  }
}

// When what was drawn just now is on the screen, or should be: pages that nobody sees are not painted.
function painted() {
  return new Promise((done) => {
    requestAnimationFrame(() => setTimeout(done));
    setTimeout(done, UNSEEN_MS);
  });
}

// Operations known before, as they are now.
function joined(known, fresh) {
  const numbers = new Set(fresh.map((operation) => operation.id));
  return [...known.filter((operation) => !numbers.has(operation.id)), ...fresh];
}

const root = document.querySelector("[data-charts]");
if (root) new Board(root);
