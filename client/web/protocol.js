// Runs one session over one websocket, with version 1 of the protocol.

const OPEN_TIMEOUT_MS = 10000;

/** The websocket address of the daemon that served this page. */
export function streamUrl(location) {
  const url = new URL("v1/stream", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  return url.href;
}

/** Parse hotwords, one per line, such as "Name" or "Name:12" (with a boost). */
export function parseHotwords(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .map((line) => {
      const match = /^(.*\S)\s*:\s*(-?\d+(?:\.\d+)?)$/.exec(line);
      return match ? { text: match[1], boost: Number(match[2]) } : { text: line };
    });
}

/**
 * A session. Calls `on.ready(message)` when audio may be sent, `on.message(message)` for every later message, and once,
 * at the end, `on.ended(failure)`: null after `done`, otherwise {code, message, fault, retryAfterMs}.
 */
export class Session {
  constructor(url, start, on) {
    this.on = on;
    this.failure = { code: "connection_failed", message: "The server cannot be reached.", fault: "server" };
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.timer = setTimeout(() => this.end(this.failure), OPEN_TIMEOUT_MS);
    this.socket.onopen = () => this.send({ type: "start", ...start });
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = () => this.end(this.failure);
  }

  receive(message) {
    switch (message.type) {
      case "ready":
        clearTimeout(this.timer);
        this.failure = { ...this.failure, message: "The connection to the server was lost." };
        this.on.ready(message);
        break;
      case "error":
        this.end({ ...message, retryAfterMs: message.retry_after_ms });
        break;
      case "done":
        this.on.message(message);
        this.end(null);
        break;
      default:
        this.on.message(message);
    }
  }

  send(message) {
    this.sendBytes(JSON.stringify(message));
  }

  sendBytes(data) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(data);
  }

  /** Bytes that are queued in the websocket. */
  get backlog() {
    return this.socket.bufferedAmount;
  }

  end(failure) {
    clearTimeout(this.timer);
    const { ended } = this.on;
    this.on = { ready() {}, message() {}, ended() {} };
    this.socket.close();
    ended(failure);
  }
}
