// Connects the page's controls, keys and texts to one LiveStream at a time.

import { Appearance } from "./appearance.js";
import { CaptionView } from "./captions.js";
import { download } from "./download.js";
import { LevelMeter } from "./level-meter.js";
import { LiveStream } from "./live.js";
import { listMicrophones, Microphone } from "./microphone.js";
import { parseHotwords, streamUrl } from "./protocol.js";
import { cueLimits, loadSettings, loadToken, saveSettings, saveToken } from "./settings.js";
import { joinWords } from "./words.js";

const SILENT_DB = -70;
const SILENT_BLOCKS = 80; // four seconds
const NOTICE_MS = 8000;
const SILENCE_ALERT = "No sound from the microphone. Check that it is not muted, and that the right one is selected.";

const element = (id) => document.getElementById(id);
const settings = loadSettings();
const view = new CaptionView(element("captions"));
const levelMeter = new LevelMeter(element("level"));
const appearance = new Appearance(settings, () => {
  levelMeter.draw();
  view.follow();
});

let token = loadToken();
let finals = [];
let lastPartial = null; // the newest partial of the running utterance
let recording = null; // {microphone, stream} of the running recording
let recordedMs = 0; // duration of the finished recordings
let nextUtterance = 0;
let opening = Promise.resolve(); // the last microphone that was asked for; one is open at a time
let quiet = { blocks: 0, zeros: 0 }; // quiet blocks in a row, and those of exact zeros among them
let plainOnly = false; // whether the server refused to write capitals and punctuation
let countdown = null;
let wakeLock = null;

// status

function setStatus(state, text) {
  element("status").dataset.state = state;
  element("status-text").textContent = text;
}

const alerts = { microphone: "", general: "" };

/** Show an alert, or none. That of the microphone comes first: without audio, there is nothing else to repair. */
function setAlert(text, kind = "general") {
  alerts[kind] = text;
  const shown = alerts.microphone || alerts.general;
  if (element("alert").textContent === shown) return;
  element("alert").textContent = shown;
  element("alert").hidden = shown === "";
}

function showNotice(text) {
  setAlert(text);
  setTimeout(() => alerts.general === text && setAlert(""), NOTICE_MS);
}

function setRunning(running) {
  element("start").setAttribute("aria-pressed", String(running));
  element("start-label").textContent = running ? "Stop" : "Start";
  element("empty").querySelector("[data-idle]").hidden = running;
  if (!running) levelMeter.clear();
}

function showWaiting({ failure, waitMs }) {
  const until = performance.now() + waitMs;
  const full = failure.code === "overloaded";
  setAlert(full ? "The server has no free session. The last 30 seconds of audio are kept." : failure.message);
  const tick = () => {
    const seconds = Math.max(1, Math.ceil((until - performance.now()) / 1000));
    setStatus("waiting", `${full ? "Server full" : "Disconnected"}, retrying in ${seconds} s`);
  };
  clearInterval(countdown);
  countdown = setInterval(tick, 1000);
  tick();
}

// recording

async function start() {
  setAlert("");
  setAlert("", "microphone");
  setRunning(true);
  setStatus("connecting", "Waiting for the microphone");
  quiet = { blocks: 0, zeros: 0 };
  const current = { microphone: null, stream: null };
  recording = current;
  const opened = opening.then(() => (recording === current ? openMicrophone(current) : null));
  opening = opened.then(
    (microphone) => recording !== current && microphone?.release(),
    () => undefined,
  );
  try {
    current.microphone = await opened;
  } catch (error) {
    if (recording !== current) return;
    recording = null;
    setRunning(false);
    setAlert(error.message);
    setStatus("error", "No microphone");
    return;
  }
  if (recording !== current) return;
  fillDevices();
  keepAwake();
  current.stream = new LiveStream({
    url: streamUrl(location),
    start: {
      sample_rate: current.microphone.sampleRate,
      encoding: "pcm_s16le",
      channels: 1,
      latency_ms: settings.latencyMs,
      hotwords: parseHotwords(settings.hotwords),
      format: settings.written && !plainOnly ? "written" : "plain",
      ...(token ? { token } : {}),
    },
    originMs: recordedMs,
    firstUtterance: nextUtterance,
    on: { message: receive, status: (status) => connectionChanged(current, status) },
  });
}

function openMicrophone(current) {
  const onBlock = (pcm, level, details) => recorded(current, pcm, level, details);
  const onLost = (error) => {
    setAlert(error.message);
    stop();
  };
  const onProblem = (problem) => recording === current && setAlert(problem, "microphone");
  return Microphone.open(settings, onBlock, onLost, { onProblem, onNotice: showNotice });
}

async function stop() {
  const current = recording;
  if (!current || current.stopping) return;
  if (!current.stream) {
    recording = null;
    setRunning(false);
    setStatus("idle", "Ready");
    return;
  }
  current.stopping = true;
  setStatus("finishing", "Finishing");
  element("start").disabled = true;
  await current.microphone.close();
  current.stream.finish();
}

function toggle() {
  if (element("start").disabled) return;
  if (recording) stop();
  else start();
}

function recorded(current, pcm, level, { gapMs, zeros }) {
  levelMeter.push(level);
  if (!current.stream) return;
  if (gapMs) current.stream.skip(gapMs);
  current.stream.push(pcm);
  element("clock").textContent = clockText(current.stream.positionMs);
  quiet = level < SILENT_DB ? { blocks: quiet.blocks + 1, zeros: quiet.zeros + zeros } : { blocks: 0, zeros: 0 };
  if (quiet.blocks === SILENT_BLOCKS && quiet.zeros < SILENT_BLOCKS) setAlert(SILENCE_ALERT);
  if (quiet.blocks === 0 && alerts.general === SILENCE_ALERT) setAlert("");
}

function receive(message) {
  switch (message.type) {
    case "partial":
      element("empty").hidden = true;
      view.partial(message);
      lastPartial = message;
      break;
    case "final":
      lastPartial = null;
      nextUtterance = message.utterance + 1;
      if (message.text) {
        element("empty").hidden = true;
        finals.push(message);
        setDownloads();
      }
      view.final(message);
      break;
    case "warning":
      setAlert(message.message);
      break;
  }
}

function connectionChanged(current, status) {
  clearInterval(countdown);
  switch (status.state) {
    case "connecting":
      setStatus("connecting", "Connecting");
      break;
    case "live":
      setStatus("live", `Listening · ${status.model} · ${status.latencyMs} ms`);
      setAlert(status.lostMs ? lostText(status.lostMs) : "");
      break;
    case "waiting":
      showWaiting(status);
      break;
    case "ended":
      ended(current, status.failure);
      if (!plainOnly && status.failure?.message.includes("start.format")) {
        plainOnly = true;
        start();
      }
      break;
  }
}

function lostText(ms) {
  return `${(ms / 1000).toFixed(1)} s of audio were lost while disconnected from the server.`;
}

function ended(current, failure) {
  recordedMs = current.stream?.positionMs ?? recordedMs;
  recording = null;
  current.microphone.release();
  setAlert("", "microphone");
  wakeLock?.release().catch(() => undefined);
  wakeLock = null;
  keepLastPartial();
  element("start").disabled = false;
  setRunning(false);
  if (!failure) {
    setStatus("idle", "Stopped");
  } else if (failure.code === "unauthorized") {
    setStatus("error", "Token required");
    askToken(failure.message);
  } else {
    setAlert(failure.message);
    setStatus("error", "Stopped by an error");
  }
}

/** Turn the last partial into a final, so that an interrupted recording keeps its words. */
function keepLastPartial() {
  if (!lastPartial) return;
  const { committed, tail, ...rest } = lastPartial;
  receive({ ...rest, type: "final", text: joinWords([committed, tail]) });
}

async function keepAwake() {
  try {
    wakeLock = await navigator.wakeLock.request("screen");
  } catch {
    // not supported, or not allowed now: the screen may turn off
  }
}

// dialogs

function askToken(why) {
  setAlert(token ? why : "");
  element("token").value = "";
  element("token-dialog").returnValue = "cancel";
  element("token-dialog").showModal();
}

element("token-dialog").addEventListener("close", () => {
  if (element("token-dialog").returnValue !== "ok") return;
  token = element("token").value;
  saveToken(token);
  start();
});

async function fillDevices() {
  const select = element("device");
  const options = (await listMicrophones()).map(({ deviceId, label }, index) => {
    return new Option(label || `Microphone ${index + 1}`, deviceId);
  });
  select.replaceChildren(new Option("Browser default", ""), ...options);
  select.value = settings.device;
  if (select.selectedIndex < 0) select.value = "";
}

const NUMBERS = [
  ["line-chars", "lineChars"],
  ["lines", "lines"],
  ["cue-seconds", "cueSeconds"],
];

function openSettings() {
  fillDevices();
  element("latency").value = settings.latencyMs;
  element("auto-level").checked = settings.autoLevel;
  element("written").checked = settings.written;
  element("hotwords").value = settings.hotwords;
  for (const [id, name] of NUMBERS) element(id).value = settings[name];
  element("settings").showModal();
}

element("settings").addEventListener("close", () => {
  const before = settings.hotwords;
  settings.device = element("device").value;
  settings.latencyMs = Number(element("latency").value);
  settings.autoLevel = element("auto-level").checked;
  settings.written = element("written").checked;
  settings.hotwords = element("hotwords").value;
  for (const [id, name] of NUMBERS) if (element(id).checkValidity()) settings[name] = element(id).valueAsNumber;
  saveSettings(settings);
  if (settings.hotwords !== before) recording?.stream?.configure(parseHotwords(settings.hotwords));
});

// downloads

function setDownloads() {
  for (const button of document.querySelectorAll("[data-download], #clear")) button.disabled = finals.length === 0;
}

function clear() {
  if (!confirm("Clear all captions? This cannot be undone.")) return;
  finals = [];
  view.clear();
  setDownloads();
  element("empty").hidden = false;
}

function clockText(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

// events

const KEYS = {
  " ": toggle,
  Enter: toggle,
  "+": () => appearance.resizeText(1),
  "=": () => appearance.resizeText(1),
  "-": () => appearance.resizeText(-1),
  d: () => appearance.toggleTheme(),
  f: () => appearance.toggleFullScreen(),
  s: openSettings,
  "?": () => element("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const busy = event.repeat || event.ctrlKey || event.metaKey || event.altKey;
  if (busy || event.target.closest("button, input, select, textarea, a, dialog")) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

element("start").addEventListener("click", toggle);
element("smaller").addEventListener("click", () => appearance.resizeText(-1));
element("larger").addEventListener("click", () => appearance.resizeText(1));
element("theme").addEventListener("click", () => appearance.toggleTheme());
element("open-settings").addEventListener("click", openSettings);
element("open-help").addEventListener("click", () => element("help").showModal());
element("clear").addEventListener("click", clear);
for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => download(finals, button.dataset.download, cueLimits(settings)));
}
document.addEventListener("visibilitychange", () => {
  if (recording && document.visibilityState === "visible") keepAwake(); // browsers end it for hidden pages
});
addEventListener("beforeunload", (event) => {
  if (recording) event.preventDefault();
});
appearance.apply();
fillDevices();
