// Brings new results to the page: passes events on to charts, and refreshes the parts marked `data-live`.
(() => {
  "use strict";
  const sign = document.querySelector("[data-live-state]");
  const { liveUrl, liveAsk, liveWorker } = document.body.dataset;
  if (!liveUrl) return;
  const absolute = (path) => new URL(path, location.href).href;
  const urls = { stream: absolute(liveUrl), ask: absolute(liveAsk) };

  const WORDS = {
    connecting: () => "Connecting…",
    live: () => "Live",
    polling: () => "Live, every 5 s",
    reconnecting: () => "Reconnecting…",
    stale: (since) =>
      `Not live since ${new Date(since).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`,
    ended: () => "Logged out",
  };
  const show = (state, since) => {
    if (!sign || sign.dataset.state === state) return;
    sign.dataset.state = state;
    sign.textContent = WORDS[state](since);
  };

  // Parts of the page that are drawn by the server again, each at most every `data-live-every` seconds.
  const waiting = new WeakMap();
  // What somebody is at: far down in a list, or with rows ticked.
  const inUse = (part) => part.querySelector("[data-more], [data-tick]:checked") !== null;
  const refresh = (part) => {
    if (waiting.get(part)) return;
    const every = Number(part.dataset.liveEvery || 2) * 1000;
    const last = Number(part.dataset.liveLast || 0);
    const due = Math.max(0, last + every - Date.now());
    waiting.set(part, true);
    setTimeout(() => {
      waiting.delete(part);
      if (!part.isConnected || document.hidden || inUse(part)) return;
      part.dataset.liveLast = String(Date.now());
      part.dispatchEvent(new CustomEvent("live"));
    }, due);
  };
  // What was asked for before somebody ticked a row would take the tick away.
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.requestConfig.triggeringEvent?.type === "live" && inUse(detail.target)) detail.shouldSwap = false;
  });
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
    if (message.type === "state") show(message.state, message.since);
    if (message.type === "results") results(message.tests);
    if (message.type === "operations") operations(message.operations);
  };

  // All pages of a browser share one stream: in a worker of theirs; else in the page that holds a lock, which passes
  // on what it hears, and another page takes over when that one goes; else, as a last resort, each has its own.
  let leave = () => {};
  const alone = () => {
    const stream = window.openLiveStream(urls, hear);
    leave = () => stream.close();
  };
  const inWorker = () => {
    const worker = new SharedWorker(liveWorker, { name: "streamswarm-live" });
    worker.addEventListener("error", alone, { once: true });
    worker.port.onmessage = (event) => hear(event.data);
    worker.port.postMessage({ type: "hello", urls });
    leave = () => worker.port.postMessage({ type: "bye" });
  };
  const amongPages = () => {
    const channel = new BroadcastChannel("streamswarm-live");
    const gone = new AbortController();
    leave = () => {
      gone.abort();
      channel.close();
    };
    channel.onmessage = (event) => hear(event.data);
    channel.postMessage({ type: "hello" });
    const lead = () =>
      new Promise((release) => {
        const tell = (message) => {
          hear(message);
          channel.postMessage(message);
        };
        const stream = window.openLiveStream(urls, tell);
        channel.onmessage = (event) => {
          if (event.data.type === "hello") channel.postMessage(stream.status());
        };
        leave = () => {
          stream.close();
          channel.close();
          release();
        };
      });
    navigator.locks.request("streamswarm-live", { signal: gone.signal }, lead).catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  };
  const join = () => {
    show("connecting");
    if (window.SharedWorker) inWorker();
    else if (navigator.locks && window.BroadcastChannel) amongPages();
    else alone();
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
