// Converts microphone samples to mono pcm_s16le blocks, on the browser's audio thread.

// Two channels of opposite phase, as a balanced cable in a stereo socket gives them, would cancel each other out.
const WINDOW_S = 0.5; // of which the correlation is computed
const OPPOSITE_BELOW = -0.9;
const QUIET_POWER = 1e-6; // of quieter channels, the phase does not matter

class Capture extends AudioWorkletProcessor {
  constructor(options) {
    super();
    this.block = new Int16Array(options.processorOptions.blockFrames);
    this.filled = 0;
    this.energy = 0;
    this.zeros = true;
    this.live = true;
    this.powers = { left: 0, right: 0, both: 0 };
    this.taken = -1; // the only channel that is used, or -1 for all
    this.takenFrames = 0;
    this.port.onmessage = () => {
      this.live = false;
      this.flush();
      this.port.postMessage({ stopped: true });
    };
  }

  process(inputs) {
    if (!this.live) return false;
    if (inputs[0].length === 0) return true;
    const channels = this.choose(inputs[0]);
    const frames = channels[0].length;
    for (let i = 0; i < frames; i++) {
      let sample = 0;
      for (const channel of channels) sample += channel[i];
      sample = Math.max(-1, Math.min(1, sample / channels.length));
      this.energy += sample * sample;
      if (sample !== 0) this.zeros = false;
      this.block[this.filled++] = Math.round(sample * 32767);
      if (this.filled === this.block.length) this.flush();
    }
    return true;
  }

  /** The channels to mix: of two with opposite phases the louder one, otherwise all. */
  choose(channels) {
    if (channels.length !== 2) return channels;
    const [left, right] = channels;
    const window = WINDOW_S * sampleRate;
    const { powers } = this;
    for (const name in powers) powers[name] *= 1 - left.length / window;
    for (let i = 0; i < left.length; i++) {
      powers.left += left[i] * left[i];
      powers.right += right[i] * right[i];
      powers.both += left[i] * right[i];
    }
    if (Math.min(powers.left, powers.right) > QUIET_POWER * window) {
      const correlation = powers.both / Math.sqrt(powers.left * powers.right);
      if (correlation > 0) this.taken = -1;
      else if (correlation < OPPOSITE_BELOW && this.taken < 0) this.taken = powers.left >= powers.right ? 0 : 1;
    }
    this.takenFrames = this.taken < 0 ? 0 : this.takenFrames + left.length;
    return this.taken < 0 ? channels : [channels[this.taken]];
  }

  flush() {
    if (this.filled === 0) return;
    const pcm = this.block.slice(0, this.filled).buffer;
    const level = 10 * Math.log10(this.energy / this.filled + 1e-9);
    const { zeros } = this;
    this.filled = 0;
    this.energy = 0;
    this.zeros = true;
    // The time is taken here: messages may wait for a page that is busy or frozen.
    const opposite = this.takenFrames >= WINDOW_S * sampleRate;
    this.port.postMessage({ pcm, level, zeros, opposite, at: Date.now() }, [pcm]);
  }
}

registerProcessor("capture", Capture);
