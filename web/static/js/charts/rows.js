// Charts of a repeated group (hops, interfaces): a line for each row, of one worker and destination.
import { Panel, metricsOf } from "./panel.js";

// Many lines are a long answer: while a page follows live runs, it comes no more often than this.
const PACE_MS = 5000;

export class Rows {
  constructor(root, board) {
    this.root = root;
    this.board = board;
    this.url = root.dataset.rows;
    this.most = Number(root.dataset.most);
    this.first = 0;
    // How many rows there were; with one, as long as that is not known, every metric is asked for.
    this.rows = 1;
    this.last = 0;
    this.asked = null;
    this.line = root.querySelector("[data-line]");
    this.shown = root.querySelector("[data-shown]");
    this.turns = [...root.querySelectorAll("[data-turn]")];
    this.panels = [...root.querySelectorAll(".chart")].map((element) => new Panel(element, board, () => this.load()));
    // A folded part that opens asks for its own metrics; toggling is told only to the part itself.
    for (const part of [root, ...root.querySelectorAll("details.more")]) part.addEventListener("toggle", () => this.load());
    this.line?.addEventListener("change", () => {
      this.first = 0;
      this.load();
    });
    for (const button of this.turns) {
      button.addEventListener("click", () => {
        this.first = Math.max(0, this.first + Number(button.dataset.turn) * this.most);
        this.load();
      });
    }
  }

  // Newest runs have come; what is shown need not follow each of them.
  follow() {
    if (Date.now() - this.last > PACE_MS) this.load();
  }

  async load() {
    if (!this.root.open) return;
    this.last = Date.now();
    this.asked?.abort();
    const asked = new AbortController();
    this.asked = asked;
    const query = new URLSearchParams({
      from: String(Math.floor(this.board.from)),
      to: String(Math.ceil(this.board.to)),
      first: String(this.first),
      line: this.line?.value ?? "",
      metrics: metricsOf(this.panels, this.rows),
    });
    try {
      const response = await fetch(`${this.url}&${query}`, { headers: { Accept: "application/json" }, signal: asked.signal });
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      this.draw(await response.json());
    } catch (error) {
      if (error.name !== "AbortError") this.board.complain(error);
    }
  }

  draw({ rows, line, total, more, first, step, gaps, t, failed, error, missed }) {
    this.first = first;
    this.rows = rows.length || 1;
    const runs = { id: line, label: line, gaps, t, failed, error, missed };
    const series = rows.map((row) => ({ ...runs, ...row }));
    const open = this.panels.filter((panel) => panel.open);
    for (const panel of open) panel.draw(series, step, this.board.operations, [runs]);
    if (open.some((panel) => panel.lacks())) this.load();
    this.turns.forEach((button) => {
      const next = first + Number(button.dataset.turn) * this.most;
      button.disabled = next < 0 || next >= total;
      button.hidden = total <= this.most;
    });
    const which = rows.length > 1 ? `${rows[0].label} to ${rows.at(-1).label}` : rows[0]?.label;
    const count = rows.length < total ? `rows ${first + 1} to ${first + rows.length} of ${total}` : `all ${total}`;
    const others = more ? " There are others, more than any sound worker brings; they are not listed." : "";
    this.shown.textContent = total ? `${line}: ${which} (${count}).${others}` : "There are none in this range.";
    this.root.dataset.rowsShown = String(rows.length);
  }
}
