// Stores the settings in the browser, and the token until the tab is closed.

import { LIMITS } from "./cues.js";

const KEY = "streamasr.settings";
const TOKEN_KEY = "streamasr.token";

// automatic gain control changes the audio: it helps with quiet microphones only
const DEFAULTS = {
  device: "",
  autoLevel: false,
  latencyMs: 640,
  written: true, // capitals, punctuation and digits
  hotwords: "",
  lineChars: LIMITS.lineChars,
  lines: LIMITS.lines,
  cueSeconds: LIMITS.cueMs / 1000,
  fontStep: 2,
  theme: "auto",
};

/** Load the stored settings, with defaults for the others. Storage may be disabled. */
export function loadSettings() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function saveSettings(settings) {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // storage is disabled: the settings last until the page is closed
  }
}

/** The limits of downloaded subtitles, for `cues.js`. */
export function cueLimits({ lineChars, lines, cueSeconds }) {
  return { ...LIMITS, lineChars, lines, cueMs: Math.round(cueSeconds * 1000) };
}

/** Take the token from `#token=…` and remove it from the address bar, or load the tab's stored token. */
export function loadToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    saveToken(given);
    return given;
  }
  try {
    return sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    return "";
  }
}

export function saveToken(token) {
  try {
    sessionStorage.setItem(TOKEN_KEY, token);
  } catch {
    // as above
  }
}
