// Sets the chosen theme before anything is drawn. Without a choice the system's preference rules.
(() => {
  "use strict";
  const KEY = "streamswarm-theme";
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is switched off: the system's preference rules
    }
  };
  const chosen = read();
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;

  window.streamswarmTheme = {
    current() {
      const forced = document.documentElement.dataset.theme;
      if (forced) return forced;
      return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    },
    set(theme) {
      document.documentElement.dataset.theme = theme;
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // storage is switched off: the choice lasts for this page
      }
      document.dispatchEvent(new CustomEvent("streamswarm:theme", { detail: { theme } }));
    },
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.dispatchEvent(new CustomEvent("streamswarm:theme", { detail: {} }));
  });
})();
