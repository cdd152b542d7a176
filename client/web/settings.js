// What the page remembers: in this browser only, and the token no longer than the tab lives.

const KEY = "streamasr.settings";
const TOKEN_KEY = "streamasr.token";

// the browser's level control changes the sound: of use to faint microphones, a loss to all others
const DEFAULTS = { device: "", autoLevel: false, latencyMs: 640, hotwords: "", fontStep: 2, theme: "auto" };

/** The settings of last time over the defaults; storage may be forbidden, then the defaults. */
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
    // a private window: the settings last as long as the page
  }
}

/** The token from `#token=…` (which then leaves the address bar), or the tab's. */
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
