// The stream of events: reconnects by itself, and polls where the server has no place left for a stream.
"use strict";

function openLiveStream(url, tell) {
  const POLL_EVERY_MS = 5000;
  const RETRY_STREAM_MS = 30000;
  let state = "connecting";
  let source = null;
  let polling = null;
  let retrying = null;
  let closed = false;

  const become = (next) => {
    if (state !== next) {
      state = next;
      tell({ type: "state", state });
    }
  };
  const stopPolling = () => {
    clearInterval(polling);
    polling = null;
  };
  const poll = () => {
    if (polling) return;
    polling = setInterval(() => tell({ type: "results", tests: null }), POLL_EVERY_MS);
    tell({ type: "results", tests: null });
  };
  const connect = () => {
    if (closed) return;
    source = new EventSource(url);
    source.addEventListener("ready", () => {
      stopPolling();
      become("live");
      // What came while the stream was away is fetched again: events are hints, not the data.
      tell({ type: "results", tests: null });
    });
    source.addEventListener("waiting", () => become("reconnecting"));
    source.addEventListener("results", (event) => {
      become("live");
      tell({ type: "results", tests: JSON.parse(event.data) });
    });
    source.addEventListener("operations", (event) => {
      become("live");
      tell({ type: "operations", operations: JSON.parse(event.data) });
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) {
        become("reconnecting");
        return;
      }
      // Answered with an error, most likely 503 because every place is taken: poll, and try again later.
      source.close();
      become("polling");
      poll();
      clearTimeout(retrying);
      retrying = setTimeout(connect, RETRY_STREAM_MS);
    });
  };
  connect();
  return {
    state: () => state,
    close() {
      closed = true;
      stopPolling();
      clearTimeout(retrying);
      source?.close();
    },
  };
}
