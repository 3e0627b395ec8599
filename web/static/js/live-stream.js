// The stream of events: reconnects by itself, polls where the server has no place left for a stream, and knows when
// what is shown is no longer fresh.
"use strict";

function openLiveStream({ stream: streamUrl, ask: askUrl }, tell) {
  const POLL_EVERY_MS = 5000;
  const RETRY_STREAM_MS = 30000;
  // The server says every 15 s that it is there: a connection on which nothing came for so long is dead.
  const SILENCE_MS = 40000;
  // So long a break is no matter; after it the page says since when it is not up to date.
  const STALE_AFTER_MS = 10000;
  let state = "connecting";
  let source = null;
  let polling = null;
  let retrying = null;
  let closed = false;
  let heard = Date.now();
  // When what is shown was last known to be up to date, and since when it is not known.
  let fresh = Date.now();
  let broken = null;

  const status = () => ({ type: "state", state, since: fresh });
  const become = (next) => {
    if (closed || state === next) return;
    state = next;
    tell(status());
  };
  const isFresh = (next) => {
    fresh = Date.now();
    broken = null;
    become(next);
  };
  const lost = () => {
    broken ??= Date.now();
    become(Date.now() - broken > STALE_AFTER_MS ? "stale" : "reconnecting");
  };
  const stopPolling = () => {
    clearInterval(polling);
    polling = null;
  };
  // Whether the server is there at all, and still knows us; a stream that is refused does not tell why.
  const ask = async () => {
    try {
      const answer = await fetch(askUrl, { cache: "no-store", signal: AbortSignal.timeout(POLL_EVERY_MS) });
      if (closed || source?.readyState === EventSource.OPEN) return;
      if (answer.status === 401) {
        stopPolling();
        become("ended");
        // Parts of pages that are fetched now lead to the login.
        tell({ type: "results", tests: null });
      } else if (answer.ok) {
        isFresh("polling");
        tell({ type: "results", tests: null });
      } else lost();
    } catch {
      lost();
    }
  };
  const poll = () => {
    if (polling) return;
    polling = setInterval(ask, POLL_EVERY_MS);
    ask();
  };
  const reconnectLater = (wait) => {
    clearTimeout(retrying);
    retrying = setTimeout(connect, wait);
  };
  const on = (name, then) =>
    source.addEventListener(name, (event) => {
      heard = Date.now();
      then(event);
    });
  function connect() {
    if (closed) return;
    source?.close();
    source = new EventSource(streamUrl);
    heard = Date.now();
    let listening = false;
    on("ready", () => {
      listening = true;
      stopPolling();
      isFresh("live");
      // What came while the stream was away is fetched again: events are hints, not the data.
      tell({ type: "results", tests: null });
    });
    on("waiting", () => {
      listening = false;
      lost();
    });
    on("alive", () => (listening ? isFresh("live") : lost()));
    on("results", (event) => {
      isFresh("live");
      tell({ type: "results", tests: JSON.parse(event.data) });
    });
    on("operations", (event) => {
      isFresh("live");
      tell({ type: "operations", operations: JSON.parse(event.data) });
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) {
        lost();
        return;
      }
      // Answered with an error: most likely every place is taken, or the session has ended.
      poll();
      reconnectLater(RETRY_STREAM_MS);
    });
  }
  const watch = setInterval(() => {
    if (state === "reconnecting") lost();
    if (source.readyState !== EventSource.CLOSED && Date.now() - heard > SILENCE_MS) {
      lost();
      connect();
    }
  }, 2000);
  connect();
  return {
    status,
    close() {
      closed = true;
      stopPolling();
      clearInterval(watch);
      clearTimeout(retrying);
      source.close();
    },
  };
}
