// The microphone: permission, device choice, the worklet that captures it. Knows no socket and no page.

const BLOCK_MS = 50;
const MAX_RATE = 48000; // what the protocol takes

/** Why there is no sound, in words for a person. */
export class MicrophoneError extends Error {}

const REASONS = {
  NotAllowedError:
    "The browser may not use the microphone. Allow it for this page (the icon beside the address) and start again.",
  NotFoundError: "No microphone was found. Plug one in and start again.",
  OverconstrainedError: "The chosen microphone is no longer there. Choose another one in the settings.",
  NotReadableError: "Another program holds the microphone. Close it there and start again.",
};

/** The recording devices; their names are empty until the microphone has been allowed once. */
export async function listMicrophones() {
  if (!navigator.mediaDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "");
}

/**
 * An open microphone. `onBlock(pcm, level)` gets an ArrayBuffer of mono 16-bit samples and its level in dBFS about
 * twenty times a second; `onLost(error)` is called if the device goes away.
 */
export class Microphone {
  static async open({ device, autoLevel }, onBlock, onLost) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneError(
        "Browsers give the microphone only to pages opened over https or on localhost. Open this page that way.",
      );
    }
    const microphone = new Microphone();
    try {
      microphone.stream = await navigator.mediaDevices.getUserMedia({
        audio: {
          ...(device ? { deviceId: { exact: device } } : {}),
          channelCount: { ideal: 1 },
          echoCancellation: false,
          noiseSuppression: false,
          autoGainControl: autoLevel,
        },
      });
      await microphone.connect(onBlock, onLost);
    } catch (error) {
      microphone.release();
      throw new MicrophoneError(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    return microphone;
  }

  async connect(onBlock, onLost) {
    this.context = new AudioContext();
    if (this.context.sampleRate > MAX_RATE) {
      await this.context.close();
      this.context = new AudioContext({ sampleRate: MAX_RATE });
    }
    await this.context.audioWorklet.addModule(new URL("./audio-worklet.js", import.meta.url));
    await this.context.resume();
    const blockFrames = Math.round((this.context.sampleRate * BLOCK_MS) / 1000);
    this.node = new AudioWorkletNode(this.context, "capture", {
      numberOfOutputs: 0,
      processorOptions: { blockFrames },
    });
    this.flushed = new Promise((resolve) => {
      this.node.port.onmessage = ({ data }) => (data.stopped ? resolve() : onBlock(data.pcm, data.level));
    });
    this.context.createMediaStreamSource(this.stream).connect(this.node);
    for (const track of this.stream.getAudioTracks()) {
      track.onended = () => onLost(new MicrophoneError("The microphone went away. Plug it in and start again."));
    }
  }

  get sampleRate() {
    return this.context.sampleRate;
  }

  /** Stop after the last captured sample has been given out. */
  async close() {
    this.node.port.postMessage("stop");
    await Promise.race([this.flushed, new Promise((resolve) => setTimeout(resolve, 500))]);
    this.release();
  }

  release() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this.context?.close().catch(() => undefined);
  }
}
