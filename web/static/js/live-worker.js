// One stream of events for all pages of this browser: browsers allow only six connections to a host.
"use strict";

importScripts("live-stream.js");

const pages = new Set();
let stream = null;

const tell = (message) => {
  for (const page of pages) page.postMessage(message);
};

self.addEventListener("connect", (event) => {
  const [page] = event.ports;
  page.addEventListener("message", ({ data }) => {
    if (data.type === "hello") {
      pages.add(page);
      // Whoever was logged out and opens a page again has a new session.
      if (stream?.status().state === "ended") {
        stream.close();
        stream = null;
      }
      if (!stream) stream = openLiveStream(data.urls, tell);
      else page.postMessage(stream.status());
    }
    if (data.type === "bye") {
      pages.delete(page);
      if (pages.size === 0 && stream) {
        stream.close();
        stream = null;
      }
    }
  });
  page.start();
});
