// Writes finished utterances as text, SRT and WebVTT, like streamasr/subtitles.py; a test compares the two.

import { cues, LIMITS } from "./cues.js";

export function toText(finals) {
  return finals.map(({ text }) => (text ? `${text}\n` : "")).join("");
}

export function toSrt(finals, limits = LIMITS) {
  return cues(finals, limits)
    .map((cue, index) => block([`${index + 1}`, times(cue, ","), ...cue.lines]))
    .join("");
}

export function toVtt(finals, limits = LIMITS) {
  const escaped = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const blocks = cues(finals, limits).map((cue) => block([times(cue, "."), ...cue.lines.map(escaped)]));
  return "WEBVTT\n\n" + blocks.join("");
}

function block(lines) {
  return [...lines, "", ""].join("\n");
}

function times({ startMs, endMs }, separator) {
  return `${timestamp(startMs, separator)} --> ${timestamp(endMs, separator)}`;
}

function timestamp(ms, separator) {
  const two = (number) => String(number).padStart(2, "0");
  const seconds = Math.floor(ms / 1000);
  const rest = String(ms % 1000).padStart(3, "0");
  const minutes = Math.floor(seconds / 60) % 60;
  return `${two(Math.floor(seconds / 3600))}:${two(minutes)}:${two(seconds % 60)}${separator}${rest}`;
}
