// Runs one session over one websocket, with version 1 of the protocol.

const OPEN_TIMEOUT_MS = 10000;
const CHECK_TIMEOUT_MS = 3000;
const BLOCKED =
  "The server can be reached, but not with a websocket. Let the proxy in front of it pass websockets on.";

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

/** Ask the server why it refused the websocket at `url`, which the browser does not tell. */
async function whyRefused(url, failure) {
  const check = new URL("check", url.replace(/^ws/, "http"));
  try {
    const response = await fetch(check, { method: "POST", signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) });
    if (!response.ok) return { ...failure, message: `The server cannot be reached (HTTP ${response.status}).` };
    const { accepted, code, message, retry_after_ms } = await response.json();
    if (accepted) return { ...failure, message: BLOCKED };
    return {
      code,
      message: `The server refused the connection: ${message}.`,
      fault: retry_after_ms === undefined ? "client" : "server",
      retryAfterMs: retry_after_ms,
    };
  } catch {
    return failure;
  }
}

/**
 * A session on one websocket, which begins with `opening`, a `start` or `resume`. Calls `on.ready(message)` with `ready`
 * or `resumed` when audio may be sent, `on.message(message)` for every later message, and once, at the end,
 * `on.ended(failure)`: null after `done`, otherwise {code, message, fault, retryAfterMs}.
 */
export class Session {
  constructor(url, opening, on) {
    this.on = on;
    this.nextSeq = opening.seq ?? 0; // the number of the server's next message
    this.failure = { code: "connection_failed", message: "The server cannot be reached.", fault: "server" };
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.timer = setTimeout(() => this.end(this.failure), OPEN_TIMEOUT_MS);
    this.opened = false;
    this.socket.onopen = () => {
      this.opened = true;
      this.send(opening);
    };
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = async () => this.end(this.opened ? this.failure : await whyRefused(url, this.failure));
  }

  receive(message) {
    if ("seq" in message) this.nextSeq = message.seq + 1;
    switch (message.type) {
      case "ready":
      case "resumed":
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
    this.socket.close(1000); // another code would mean that the session is to be kept
    ended(failure);
  }
}
