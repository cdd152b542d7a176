// Streams audio and receives captions continuously. When the connection is lost, it resumes the session, or sends the
// audio since the last finished utterance again in a new one. A server that shuts down ends the utterance where it is,
// perhaps in a word: this final is held back, and the next session recognises the utterance whole. Times and utterance
// numbers continue.

import { Session } from "./protocol.js";

// Most audio buffered, longer than the longest utterance. Only a final or `done` acknowledges audio: without one, a
// server that is behind may still find words in all of it.
const REPLAY_MS = 30000;
const BACKLOG_MS = 5000; // most audio queued in the websocket
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 20000;
const KEEPALIVE_MS = 5000; // how often a session without new audio is kept open
const GAP_SILENCE_MS = 2000; // silence in place of a gap in the audio, long enough to end an utterance
const FINISH_MS = 20000; // longest time without a message while the last finals are awaited after stop
const AUDIO_TOLERANCE_MS = 100; // largest difference, caused by rounding, between the audio sent and recognised
const RETRYABLE_CLIENT_ERRORS = new Set(["idle_timeout", "slow_reader", "start_timeout"]);

/** Holds the newest `maxBytes` bytes of a stream, addressed by their offset from its start. */
export class ReplayBuffer {
  constructor(maxBytes) {
    this.maxBytes = maxBytes;
    this.blocks = [];
    this.start = 0;
    this.end = 0;
  }

  append(bytes) {
    this.blocks.push({ at: this.end, bytes });
    this.end += bytes.length;
    this.release(this.end - this.maxBytes);
  }

  /** Return the rest of the block that contains `offset`; null at the end. */
  read(offset) {
    const block = this.blocks.find(({ at, bytes }) => offset < at + bytes.length);
    return block ? block.bytes.subarray(offset - block.at) : null;
  }

  release(offset) {
    this.start = Math.max(this.start, Math.min(offset, this.end));
    while (this.blocks.length > 0 && this.blocks[0].at + this.blocks[0].bytes.length <= this.start) {
      this.blocks.shift();
    }
  }
}

/** The waiting time before attempt number `tries` (from 0), with jitter, and at least `retryAfterMs`. */
export function backoffMs(tries, retryAfterMs, random = Math.random) {
  const window = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, 30));
  const jitter = (window / 2) * random();
  return Math.round(retryAfterMs === undefined ? window / 2 + jitter : retryAfterMs + jitter);
}

/**
 * Streams one recording. Calls `on.message(message)` for every message of the server, and `on.status(status)` when the
 * connection changes: {state: "connecting" | "live" | "waiting" | "ended", failure?, waitMs?, lostMs?}. The state
 * "ended" is the last one; its failure is null if all audio was recognised.
 */
export class LiveStream {
  constructor({ url, start, originMs = 0, firstUtterance = 0, keepaliveMs = KEEPALIVE_MS, on }) {
    this.gaps = []; // {atMs, ms}: time that has passed without audio
    this.keepaliveMs = keepaliveMs;
    this.url = url;
    this.start = start;
    this.on = on;
    this.baseMs = originMs;
    this.nextUtterance = firstUtterance;
    this.bytesPerMs = (start.sample_rate * 2) / 1000;
    this.buffer = new ReplayBuffer(this.bytes(REPLAY_MS));
    this.sent = 0;
    this.tries = 0;
    this.finishing = false;
    this.over = false;
    this.configures = 0; // sent in this session
    this.kept = null; // {token, seq} of a session whose connection was lost and that may be resumed
    this.draining = false; // whether the session's server is shutting down
    this.held = null; // the newest final of a server that is shutting down
    this.connect();
  }

  /** The size of `ms` milliseconds of audio in bytes, as a whole number of samples. */
  bytes(ms) {
    return 2 * Math.round((ms * this.bytesPerMs) / 2);
  }

  /** The duration of the recording so far, in milliseconds. */
  get positionMs() {
    return this.timeAt(Math.round(this.buffer.end / this.bytesPerMs));
  }

  /** The time in the recording, including gaps, of a position in the audio in milliseconds. */
  timeAt(audioMs) {
    return this.gaps.reduce((time, { atMs, ms }) => (atMs <= audioMs ? time + ms : time), this.baseMs + audioMs);
  }

  /** Leave out `ms` milliseconds, in which nothing was recorded: times continue after them. */
  skip(ms) {
    if (this.over || this.finishing) return;
    const silenceMs = Math.min(ms, GAP_SILENCE_MS);
    this.push(new ArrayBuffer(this.bytes(silenceMs)));
    if (ms > silenceMs) this.gaps.push({ atMs: this.buffer.end / this.bytesPerMs, ms: ms - silenceMs });
  }

  push(pcm) {
    if (this.over || this.finishing) return;
    this.buffer.append(new Uint8Array(pcm));
    this.sendBuffered();
  }

  /** End the audio: send the rest and `stop`, then wait for the last finals. */
  finish() {
    if (this.over || this.finishing) return;
    this.finishing = true;
    this.awaitLastWords();
    if (this.waitTimer && !this.kept) this.endWith(this.lastFailure);
    else this.sendBuffered();
  }

  awaitLastWords() {
    clearTimeout(this.finishTimer);
    this.finishTimer = setTimeout(
      () => this.endWith({ code: "timeout", message: "The server did not finish in time." }),
      FINISH_MS,
    );
  }

  configure(hotwords) {
    this.start = { ...this.start, hotwords };
    this.configures += 1;
    if (this.ready) this.session.send({ type: "configure", hotwords });
  }

  connect() {
    this.waitTimer = null;
    this.ready = false;
    this.on.status({ state: "connecting" });
    const opening = this.kept ? { type: "resume", ...this.kept } : { type: "start", ...this.start };
    this.session = new Session(this.url, opening, {
      ready: (message) => (message.type === "ready" ? this.sessionOpened(message) : this.sessionResumed(message)),
      message: (message) => this.receive(message),
      ended: (failure) => this.sessionEnded(failure),
    });
  }

  sessionOpened(message) {
    if (this.held && this.buffer.start > this.bytes(this.originMs + this.held.start_ms)) this.showHeld();
    this.held = null;
    this.draining = false;
    const lostMs = Math.round(Math.max(0, this.buffer.start - this.sent) / this.bytesPerMs);
    this.opened = message;
    this.kept = null;
    this.configures = 0;
    this.stopped = false;
    this.position = this.origin = this.buffer.start;
    this.originMs = Math.round(this.origin / this.bytesPerMs);
    this.firstUtterance = this.nextUtterance;
    this.goLive(lostMs);
  }

  /** Go on where the connection broke, if the audio that the server lacks is still in the buffer. */
  sessionResumed({ audio_samples: samples, requests }) {
    const position = this.origin + 2 * samples;
    if (position < this.buffer.start) {
      this.session.end({ code: "unknown_session" });
      return;
    }
    this.kept = null;
    this.position = position;
    this.stopped = this.stopped && requests > this.configures;
    if (requests < this.configures) this.session.send({ type: "configure", hotwords: this.start.hotwords });
    this.configures = requests < this.configures ? requests + 1 : this.configures;
    this.goLive(0);
  }

  goLive(lostMs) {
    const { model, latency_ms: latencyMs } = this.opened;
    this.ready = true;
    this.on.status({ state: "live", model, latencyMs, lostMs });
    let kept = -1;
    this.keepaliveTimer = setInterval(() => {
      if (this.position === kept && !this.stopped) this.session.send({ type: "keepalive" });
      kept = this.position;
    }, this.keepaliveMs);
    this.sendBuffered();
  }

  sendBuffered() {
    if (!this.ready || this.stopped) return;
    if (this.position < this.buffer.start) {
      this.session.end({ code: "too_slow", message: "The server cannot keep up.", fault: "server" });
      return;
    }
    while (this.position < this.buffer.end && (this.session.backlog < this.bytes(BACKLOG_MS) || this.finishing)) {
      const bytes = this.buffer.read(this.position);
      this.session.sendBytes(bytes);
      this.position += bytes.length;
    }
    this.sent = Math.max(this.sent, this.position);
    if (this.finishing) {
      this.stopped = true;
      this.session.send({ type: "stop" });
    }
  }

  receive(message) {
    this.tries = 0;
    if (this.finishing) this.awaitLastWords();
    if (message.type === "warning" && message.code === "shutting_down") this.draining = true;
    if (this.draining && message.type === "final") {
      this.showHeld();
      this.held = message;
      return;
    }
    if (message.type === "done" && this.held) {
      const recognised = this.bytes(this.originMs + message.audio_ms + AUDIO_TOLERANCE_MS);
      if (!this.finishing || recognised < this.buffer.end) return; // the held utterance's audio stays in the buffer
      this.showHeld();
    }
    this.show(message);
  }

  /** Show the final that was held back, if any, as the text of its audio. */
  showHeld() {
    const held = this.held;
    this.held = null;
    if (held) this.show(held);
  }

  show(message) {
    const rebased = this.rebase(message);
    if (rebased.type === "final") {
      this.nextUtterance = rebased.utterance + 1;
      this.releaseBuffer(message.end_ms);
    }
    if (rebased.type === "done") this.releaseBuffer(message.audio_ms);
    this.on.message(rebased);
  }

  releaseBuffer(ms) {
    this.buffer.release(Math.min(this.bytes(this.originMs + ms), this.sent));
  }

  rebase(message) {
    const rebased = { ...message };
    for (const name of ["at_ms", "start_ms", "end_ms", "audio_ms"]) {
      if (name in rebased) rebased[name] = this.timeAt(this.originMs + rebased[name]);
    }
    if ("utterance" in rebased) rebased.utterance += this.firstUtterance;
    if (rebased.words) {
      rebased.words = rebased.words.map((word) => ({
        ...word,
        start_ms: this.timeAt(this.originMs + word.start_ms),
        end_ms: this.timeAt(this.originMs + word.end_ms),
      }));
    }
    return rebased;
  }

  sessionEnded(failure) {
    clearInterval(this.keepaliveTimer);
    const wasReady = this.ready;
    this.ready = false;
    if (this.over) return;
    if (failure?.code === "unknown_session") {
      this.kept = null;
      this.connect();
      return;
    }
    if (wasReady && failure?.code === "connection_failed" && this.opened.resume) {
      this.kept = { token: this.opened.resume, seq: this.session.nextSeq };
    }
    if (failure === null && this.stopped) {
      this.endWith(null);
      return;
    }
    const reason = failure ?? { code: "shutting_down", message: "The server is shutting down.", fault: "server" };
    const mayRetry =
      reason.fault !== "client" || reason.retryAfterMs !== undefined || RETRYABLE_CLIENT_ERRORS.has(reason.code);
    if (!mayRetry || (this.finishing && !this.kept)) {
      this.endWith(reason);
      return;
    }
    this.lastFailure = reason;
    const waitMs = backoffMs(this.tries++, reason.retryAfterMs);
    this.waitTimer = setTimeout(() => this.connect(), waitMs);
    this.on.status({ state: "waiting", failure: reason, waitMs });
  }

  endWith(failure) {
    if (this.over) return;
    this.showHeld();
    this.over = true;
    clearTimeout(this.waitTimer);
    clearTimeout(this.finishTimer);
    this.session.end(failure);
    this.on.status({ state: "ended", failure });
  }
}
