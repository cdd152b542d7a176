// Converts microphone samples to mono pcm_s16le blocks, on the browser's audio thread.

class Capture extends AudioWorkletProcessor {
  constructor(options) {
    super();
    this.block = new Int16Array(options.processorOptions.blockFrames);
    this.filled = 0;
    this.energy = 0;
    this.zeros = true;
    this.live = true;
    this.port.onmessage = () => {
      this.live = false;
      this.flush();
      this.port.postMessage({ stopped: true });
    };
  }

  process(inputs) {
    const channels = inputs[0];
    if (!this.live) return false;
    if (channels.length === 0) return true;
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

  flush() {
    if (this.filled === 0) return;
    const pcm = this.block.slice(0, this.filled).buffer;
    const level = 10 * Math.log10(this.energy / this.filled + 1e-9);
    const { zeros } = this;
    this.filled = 0;
    this.energy = 0;
    this.zeros = true;
    // The time is taken here: messages may wait for a page that is busy or frozen.
    this.port.postMessage({ pcm, level, zeros, at: Date.now() }, [pcm]);
  }
}

registerProcessor("capture", Capture);
