// Brings new results to the page: passes events on to charts, and refreshes the parts marked `data-live`.
(() => {
  "use strict";
  const sign = document.querySelector("[data-live-state]");
  const url = document.body.dataset.liveUrl;
  if (!url) return;

  const WORDS = {
    connecting: "Connecting…",
    live: "Live",
    polling: "Live, every 5 s",
    reconnecting: "Reconnecting…",
  };
  const show = (state) => {
    if (!sign || sign.dataset.state === state) return;
    sign.dataset.state = state;
    sign.textContent = WORDS[state] ?? state;
  };

  // Parts of the page that are drawn by the server again, each at most every `data-live-every` seconds.
  const waiting = new WeakMap();
  const refresh = (part) => {
    if (waiting.get(part)) return;
    const every = Number(part.dataset.liveEvery || 2) * 1000;
    const last = Number(part.dataset.liveLast || 0);
    const due = Math.max(0, last + every - Date.now());
    waiting.set(part, true);
    setTimeout(() => {
      waiting.delete(part);
      if (!part.isConnected || document.hidden || part.querySelector("[data-more], [data-tick]:checked")) return;
      part.dataset.liveLast = String(Date.now());
      part.dispatchEvent(new CustomEvent("live"));
    }, due);
  };
  const concerns = (part, tests) => {
    if (!tests || !part.dataset.liveTest) return true;
    return tests.includes(Number(part.dataset.liveTest));
  };
  const results = (tests) => {
    document.dispatchEvent(new CustomEvent("streamswarm:results", { detail: { tests } }));
    for (const part of document.querySelectorAll("[data-live]")) if (concerns(part, tests)) refresh(part);
    // Anything may be new: then of operations too.
    if (!tests) operations(null);
  };
  // Parts about operations on the fleet: about one of them, or about all when they name none.
  const operations = (numbers) => {
    for (const part of document.querySelectorAll("[data-operations]")) {
      if (!numbers || !part.dataset.operations || numbers.includes(Number(part.dataset.operations))) refresh(part);
    }
  };
  const hear = (message) => {
    if (message.type === "state") show(message.state);
    if (message.type === "results") results(message.tests);
    if (message.type === "operations") operations(message.operations);
  };

  let leave = () => {};
  const join = () => {
    show("connecting");
    if (window.SharedWorker) {
      const worker = new SharedWorker(document.body.dataset.liveWorker, { name: "streamswarm-live" });
      worker.port.onmessage = (event) => hear(event.data);
      worker.port.postMessage({ type: "hello", url: new URL(url, location.href).href });
      leave = () => worker.port.postMessage({ type: "bye" });
    } else {
      const stream = window.openLiveStream(url, hear);
      leave = () => stream.close();
    }
  };
  join();
  window.addEventListener("pagehide", () => leave());
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) join();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) results(null);
  });
})();
