// Saves captions as files.

import { toSrt, toText, toVtt } from "./subtitles.js";

const FORMATS = {
  txt: [toText, "text/plain"],
  srt: [toSrt, "application/x-subrip"],
  vtt: [toVtt, "text/vtt"],
};

/** Download the finals as a file; `format` is "txt", "srt" or "vtt", and `limits` are those of `cues.js`. */
export function download(finals, format, limits, now = new Date()) {
  const [write, type] = FORMATS[format];
  const url = URL.createObjectURL(new Blob([write(finals, limits)], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `captions-${now.toISOString().slice(0, 16).replace("T", "-").replace(":", "")}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
