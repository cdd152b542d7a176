// Opens the microphone: permission, choice of the device, and the worklet that captures the audio.

const BLOCK_MS = 50;
const MAX_RATE = 48000; // the protocol's limit, in Hz

/** Says in its message why the microphone cannot be used, and what to do. */
export class MicrophoneError extends Error {}

const REASONS = {
  NotAllowedError:
    "The browser is not allowed to use the microphone. Allow it with the icon next to the address, then start again.",
  NotFoundError: "No microphone was found. Connect one and start again.",
  OverconstrainedError: "The selected microphone is not connected. Connect it, or choose another one in the settings.",
  NotReadableError: "Another program is using the microphone. Close that program and start again.",
};

/** List the microphones. Their names are empty until the user has allowed access once. */
export async function listMicrophones() {
  if (!navigator.mediaDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "");
}

/**
 * An open microphone. `onBlock(pcm, level)` is called about twenty times per second with an ArrayBuffer of mono 16-bit
 * samples and its level in dBFS; `onLost(error)` is called if the device is disconnected.
 */
export class Microphone {
  static async open({ device, autoLevel }, onBlock, onLost) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneError(
        "Browsers allow the microphone only on pages from https or localhost. Open this page with such an address.",
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
      track.onended = () => onLost(new MicrophoneError("The microphone was disconnected. Connect it and start again."));
    }
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
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this.context?.close().catch(() => undefined);
  }
}
