// What every page does: navigation on small screens, theme button, tool tips, confirmations, relative times.
(() => {
  "use strict";

  const rail = document.querySelector(".rail");
  const toggle = document.querySelector("[data-rail-toggle]");
  if (rail && toggle) {
    toggle.addEventListener("click", () => {
      const open = rail.toggleAttribute("data-open");
      toggle.setAttribute("aria-expanded", String(open));
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && rail.hasAttribute("data-open")) {
        rail.removeAttribute("data-open");
        toggle.setAttribute("aria-expanded", "false");
        toggle.focus();
      }
    });
  }

  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    const label = () => {
      const dark = window.streamswarmTheme.current() === "dark";
      button.setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
      button.setAttribute("title", button.getAttribute("aria-label"));
      const use = button.querySelector("use");
      use.setAttribute("href", use.getAttribute("href").replace(/#.*/, dark ? "#sun" : "#moon"));
    };
    label();
    document.addEventListener("streamswarm:theme", label);
    button.addEventListener("click", () =>
      window.streamswarmTheme.set(window.streamswarmTheme.current() === "dark" ? "light" : "dark"),
    );
  }

  // A tool tip closes on Escape without losing focus, and opens again when entered anew.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const tip of document.querySelectorAll(".tip:hover, .tip:focus-within")) tip.dataset.closed = "";
  });
  for (const type of ["focusout", "mouseout"]) {
    document.addEventListener(type, (event) => {
      const tip = event.target.closest?.(".tip[data-closed]");
      if (tip && !tip.contains(event.relatedTarget)) delete tip.dataset.closed;
    });
  }

  // Confirmations: a button that names a dialog opens it; buttons inside close it.
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens)?.showModal();
    const closer = event.target.closest("[data-closes]");
    if (closer) closer.closest("dialog").close();
  });

  // A form is sent once.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // The tick in a list's head ticks all rows that are there.
  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-tick-all]");
    if (!all) return;
    for (const one of all.closest("table").querySelectorAll("[data-tick]")) one.checked = all.checked;
  });

  // A list of ticks that a text field narrows.
  document.addEventListener("input", (event) => {
    const box = event.target.closest("[data-narrows]");
    if (!box) return;
    const wanted = box.value.trim().toLowerCase();
    for (const item of document.getElementById(box.dataset.narrows).querySelectorAll(".check")) {
      item.hidden = wanted !== "" && !item.textContent.toLowerCase().includes(wanted);
    }
  });

  // Instants typed in the browser's zone are sent in UTC; instants from the server are shown in the browser's zone.
  const two = (number) => String(number).padStart(2, "0");
  const zone = document.documentElement.dataset.inZone || undefined;
  const reader = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  });
  // What the clocks of the user's zone show at an instant, as a field of date and time has it.
  const localText = (instant) => {
    const part = Object.fromEntries(reader.formatToParts(instant).map(({ type, value }) => [type, value]));
    return `${part.year.padStart(4, "0")}-${part.month}-${part.day}T${part.hour}:${part.minute}:${part.second}`;
  };
  // The instant at which they show it; looked for twice, for the offset may be another one there.
  const instantOf = (text) => {
    const shown = Date.parse(`${text.length === 16 ? `${text}:00` : text}Z`);
    let found = shown;
    for (let round = 0; round < 2; round += 1) found = shown - (Date.parse(`${localText(new Date(found))}Z`) - found);
    return new Date(found);
  };
  for (const shown of document.querySelectorAll("input[data-instant]")) {
    const sent = document.getElementById(shown.dataset.instant);
    const known = new Date(sent.value);
    if (sent.value && !Number.isNaN(known.getTime())) shown.value = localText(known);
    shown.addEventListener("change", () => {
      const typed = instantOf(shown.value);
      sent.value = shown.value && !Number.isNaN(typed.getTime()) ? typed.toISOString() : shown.value;
    });
  }
  for (const place of document.querySelectorAll("[data-zone]")) {
    place.textContent = zone || Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
  }

  const SPACE = "\u00a0";
  const relative = (instant) => {
    const seconds = (Date.now() - instant) / 1000;
    const size = Math.abs(seconds);
    if (size < 1.5) return "now";
    const [length, word] =
      size < 60 ? [1, "s"] : size < 3600 ? [60, "min"] : size < 86400 ? [3600, "h"] : [86400, "d"];
    const text = `${Math.round(size / length)}${SPACE}${word}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  };
  setInterval(() => {
    if (document.hidden) return;
    for (const tag of document.querySelectorAll("time[data-relative]")) {
      const text = relative(Date.parse(tag.dateTime));
      if (tag.textContent !== text) tag.textContent = text;
    }
  }, 2000);

  // Whoever was logged out meanwhile must not find the login page inside a panel.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (new URL(xhr.responseURL || location.href).pathname.startsWith("/login")) {
      event.detail.shouldSwap = false;
      location.reload();
    }
  });
})();
