// Long lists hold the rows near what is seen: pages of rows that are far away are taken out, a gap as high in their place, and
// fetched again when they come near. The first page stays, and whatever has something ticked.
(() => {
  "use strict";
  const NEAR_PX = 3000;
  const LOOK_EVERY_MS = 150;
  // Where a page of rows was fetched from, by its first row or by the gap in its place.
  const origin = new WeakMap();

  document.addEventListener("htmx:afterSwap", ({ target, detail }) => {
    if (target.matches("tr[data-more]")) origin.set(target, detail.pathInfo.finalRequestPath);
  });

  const isNear = (top, bottom) => bottom > -NEAR_PX && top < innerHeight + NEAR_PX;
  const isEnd = (row) => !row || row.matches("[data-more], [data-gap]") || row.querySelector(".more-rows") !== null;

  const rowsOf = (first) => {
    const rows = [first];
    while (!isEnd(rows.at(-1).nextElementSibling)) rows.push(rows.at(-1).nextElementSibling);
    return rows;
  };

  const takeOut = (first) => {
    const rows = rowsOf(first);
    const top = first.getBoundingClientRect().top;
    const { bottom } = rows.at(-1).getBoundingClientRect();
    if (isNear(top, bottom) || rows.some((row) => row.querySelector("input:checked"))) return;
    const gap = document.createElement("tr");
    gap.dataset.gap = "";
    gap.setAttribute("aria-hidden", "true");
    const cell = gap.insertCell();
    cell.colSpan = first.cells.length;
    cell.style.height = `${bottom - top}px`;
    cell.style.padding = "0";
    origin.set(gap, origin.get(first));
    first.before(gap);
    rows.forEach((row) => row.remove());
  };

  // Null when it could not be had: it is asked for again when somebody scrolls, and the sign of the live updates tells of trouble.
  const fetched = async (path) => {
    try {
      const answer = await fetch(path, { headers: { "HX-Request": "true" } });
      return answer.ok && !answer.redirected ? await answer.text() : null;
    } catch {
      return null;
    }
  };

  const bringBack = async (gap) => {
    const { top, bottom } = gap.getBoundingClientRect();
    if (!isNear(top, bottom) || gap.dataset.gap) return;
    gap.dataset.gap = "asked";
    const text = await fetched(origin.get(gap));
    if (text === null) {
      gap.dataset.gap = "";
      return;
    }
    const found = new DOMParser().parseFromString(`<table><tbody>${text}</tbody></table>`, "text/html");
    found.querySelector(".more-rows")?.closest("tr").remove();
    const rows = [...found.querySelectorAll("tr")];
    if (rows.length) origin.set(rows[0], origin.get(gap));
    gap.replaceWith(...rows);
    rows.forEach((row) => window.htmx.process(row));
  };

  let looking = null;
  const look = () => {
    looking = null;
    for (const first of document.querySelectorAll("tr[data-more]")) if (origin.has(first)) takeOut(first);
    for (const gap of document.querySelectorAll("tr[data-gap]")) bringBack(gap);
  };
  const lookSoon = () => {
    looking ??= setTimeout(look, LOOK_EVERY_MS);
  };
  document.addEventListener("scroll", lookSoon, { passive: true, capture: true });
  addEventListener("resize", lookSoon, { passive: true });
})();
