// Draws the microphone's level during the last seconds as bars, in the colours of the stylesheet.

const FLOOR_DB = -60;
const CLIP_DB = -3;
const BAR_PX = 3;
const GAP_PX = 2;

export class LevelMeter {
  constructor(canvas) {
    this.canvas = canvas;
    this.levels = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Add the level of one block, in dBFS. */
  push(level) {
    this.levels.push(level);
    this.draw();
  }

  clear() {
    this.levels = [];
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const count = Math.floor((width + GAP_PX) / (BAR_PX + GAP_PX));
    this.levels = this.levels.slice(-count);
    const style = getComputedStyle(canvas);
    const [bar, clip, rest] = ["--accent", "--danger", "--line"].map((name) => style.getPropertyValue(name));
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    for (let index = 0; index < count; index++) {
      const level = this.levels[this.levels.length - count + index];
      const fraction = level === undefined ? 0 : Math.max(0, Math.min(1, 1 - level / FLOOR_DB));
      const size = Math.max(BAR_PX, fraction * height);
      context.fillStyle = fraction === 0 ? rest : level > CLIP_DB ? clip : bar;
      context.beginPath();
      context.roundRect(index * (BAR_PX + GAP_PX), (height - size) / 2, BAR_PX, size, BAR_PX / 2);
      context.fill();
    }
  }
}
