// Opens the microphone, captures its audio, and takes it up again after the browser or the device stopped.

const BLOCK_MS = 50;
const MAX_RATE = 48000; // the protocol's limit, in Hz
const GAP_MS = 500; // more time between two blocks is a gap in the audio
const STALL_MS = 1500; // a microphone that has sent no audio for so long has stopped
const CHECK_MS = 500;
const RETRY_MS = 2000;
const NO_SIGNAL_MS = 5000;

/** Says in its message why the microphone cannot be used, and what to do. */
export class MicrophoneError extends Error {}

const REASONS = {
  NotAllowedError:
    "The browser is not allowed to use the microphone. Allow it with the icon next to the address, then start again.",
  NotFoundError: "No microphone was found. Connect one and start again.",
  OverconstrainedError: "The selected microphone is not connected. Connect it, or choose another one in the settings.",
  NotReadableError: "Another program is using the microphone. Close that program and start again.",
};
const PAUSED = "The browser has paused the microphone. Click on this page to go on.";
const DISCONNECTED = "The microphone was disconnected. Connect it to go on.";
const STALLED = "The microphone sends no audio. Trying to open it again.";
const MUTED = "The microphone is muted, by its own switch or by the system.";
const OPPOSITE =
  "The two channels of the microphone have opposite phases, as with a swapped wire. Only one of them is used.";
const NO_SIGNAL = "No signal from the microphone: it is muted, or the system gives the browser no permission to record.";

/** List the microphones. Their names are empty until the user has allowed access once. */
export async function listMicrophones() {
  if (!navigator.mediaDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "");
}

function asMicrophoneError(error) {
  return new MicrophoneError(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
}

/**
 * An open microphone. `onBlock(pcm, level, {gapMs, zeros})` is called about twenty times per second with an ArrayBuffer
 * of mono 16-bit samples, its level in dBFS, the time without audio before it, and whether it has nothing but zeros.
 *
 * When audio stops, `onProblem` is called with a sentence, and with "" when all is well again; meanwhile the
 * microphone tries to go on. `onNotice` is called when another device takes over, and `onLost(error)` if recording is
 * no longer allowed.
 */
export class Microphone {
  static async open(settings, onBlock, onLost, { onProblem = () => {}, onNotice = () => {} } = {}) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneError(
        "Browsers allow the microphone only on pages from https or localhost. Open this page with such an address.",
      );
    }
    const microphone = new Microphone(settings, { onBlock, onLost, onProblem, onNotice });
    try {
      await microphone.connect();
    } catch (error) {
      microphone.release();
      throw asMicrophoneError(error);
    }
    return microphone;
  }

  constructor({ device, autoLevel }, on) {
    this.device = device;
    this.autoLevel = autoLevel;
    this.on = on;
    this.problem = "";
    this.zerosMs = 0;
    this.released = false;
    this.reopening = false;
    this.listeners = new AbortController();
  }

  async connect() {
    const stream = await this.request();
    this.stream = stream;
    await this.startContext();
    this.attach(stream);
    this.defaultDevice = await findDefaultDevice();
    this.watch();
    this.resume();
  }

  /** Start the browser's audio, at `sampleRate` Hz or the browser's own rate; end what ran before. */
  async startContext(sampleRate) {
    this.context?.close().catch(() => undefined);
    this.context = new AudioContext(sampleRate ? { sampleRate } : {});
    if (this.context.sampleRate > MAX_RATE) {
      await this.context.close();
      this.context = new AudioContext({ sampleRate: MAX_RATE });
    }
    this.context.onstatechange = () => this.resume();
    await this.context.audioWorklet.addModule(new URL("./audio-worklet.js", import.meta.url));
    const blockFrames = Math.round((this.context.sampleRate * BLOCK_MS) / 1000);
    const node = new AudioWorkletNode(this.context, "capture", {
      numberOfOutputs: 0,
      processorOptions: { blockFrames },
    });
    this.flushed = new Promise((resolve) => {
      node.port.onmessage = ({ data }) => {
        if (data.stopped) resolve();
        else if (node === this.node) this.receive(data);
      };
    });
    this.node = node;
  }

  request() {
    return navigator.mediaDevices.getUserMedia({
      audio: {
        ...(this.device ? { deviceId: { exact: this.device } } : {}),
        channelCount: { ideal: 1 },
        echoCancellation: false,
        noiseSuppression: false,
        autoGainControl: this.autoLevel ?? false,
      },
    });
  }

  /** Record from `stream`, instead of the one before. */
  attach(stream) {
    this.source?.disconnect();
    if (this.stream !== stream) stopTracks(this.stream);
    this.stream = stream;
    this.source = this.context.createMediaStreamSource(stream);
    this.source.connect(this.node);
    const [track] = stream.getAudioTracks();
    track.onended = () => this.check();
    track.onmute = () => this.report(MUTED);
    track.onunmute = () => this.problem === MUTED && this.report("");
    this.track = track;
    this.heardAt = performance.now();
    if (this.problem === DISCONNECTED) this.report("");
  }

  watch() {
    const { signal } = this.listeners;
    const resume = () => this.resume();
    for (const event of ["visibilitychange", "resume", "pointerdown", "keydown"]) {
      document.addEventListener(event, resume, { signal });
    }
    navigator.mediaDevices.addEventListener("devicechange", () => this.devicesChanged(), { signal });
    this.timer = setInterval(() => this.check(), CHECK_MS);
  }

  /** Let the browser run the audio again. Without a click, it may refuse. */
  resume() {
    const { state } = this.context;
    if (!this.released && state !== "running" && state !== "closed") this.context.resume().catch(() => undefined);
  }

  receive({ pcm, level, at, zeros, opposite }) {
    const blockMs = (pcm.byteLength / 2 / this.context.sampleRate) * 1000;
    const gapMs = this.lastAt === undefined ? 0 : at - this.lastAt - blockMs;
    this.lastAt = at;
    this.heardAt = performance.now();
    this.zerosMs = zeros ? this.zerosMs + blockMs : 0;
    const goesOn = !zeros || this.problem === PAUSED || this.problem === STALLED;
    if (goesOn && this.track.readyState === "live") this.report(opposite ? OPPOSITE : "");
    if (this.zerosMs >= NO_SIGNAL_MS && this.problem === "") this.report(NO_SIGNAL);
    this.on.onBlock(pcm, level, { gapMs: gapMs > GAP_MS ? Math.round(gapMs) : 0, zeros });
  }

  /** Find out why there is no audio, and try to go on. Browsers send zeros for a track that has ended. */
  check() {
    if (this.track.readyState === "ended") {
      this.report(DISCONNECTED);
      this.reopen();
    } else if (performance.now() - this.heardAt < STALL_MS) {
      return;
    } else if (this.context.state !== "running") {
      this.report(PAUSED);
      this.resume();
    } else {
      this.report(STALLED);
      this.reopen();
    }
  }

  async devicesChanged() {
    const before = this.defaultDevice;
    this.defaultDevice = await findDefaultDevice();
    const moved = !this.device && this.defaultDevice !== before;
    if (this.track.readyState === "ended" || moved) await this.reopen();
  }

  /** Open the microphone again, or the new default one. At most one attempt runs, and a new one waits a little. */
  async reopen() {
    if (this.released || this.reopening) return;
    this.reopening = true;
    const { label } = this.track;
    try {
      const stream = await this.request();
      if (this.problem === STALLED && !this.released) await this.startContext(this.sampleRate);
      if (this.released) {
        stopTracks(stream);
        this.context.close().catch(() => undefined);
        return;
      }
      this.attach(stream);
      this.resume();
      if (this.track.label !== label) this.on.onNotice(`Now recording from ${this.track.label}.`);
    } catch (error) {
      if (!this.released && error.name === "NotAllowedError") this.on.onLost(asMicrophoneError(error));
    }
    setTimeout(() => (this.reopening = false), RETRY_MS);
  }

  report(problem) {
    if (this.problem === problem || this.released) return;
    this.problem = problem;
    this.on.onProblem(problem);
  }

  get sampleRate() {
    return this.context.sampleRate;
  }

  /** Stop after the last captured block has been passed to `onBlock`. */
  async close() {
    this.node.port.postMessage("stop");
    await Promise.race([this.flushed, new Promise((resolve) => setTimeout(resolve, 500))]);
    this.release();
  }

  release() {
    this.released = true;
    clearInterval(this.timer);
    this.listeners.abort();
    stopTracks(this.stream);
    this.context?.close().catch(() => undefined);
  }
}

function stopTracks(stream) {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = track.onmute = track.onunmute = null;
    track.stop();
  }
}

/** The identity of the system's default microphone; "" in browsers that do not tell. */
async function findDefaultDevice() {
  const device = (await listMicrophones()).find(({ deviceId }) => deviceId === "default");
  return device ? `${device.groupId} ${device.label}` : "";
}
