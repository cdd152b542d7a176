// Changes the text size, dark or light mode, and full screen. They are stored with the settings.

import { saveSettings } from "./settings.js";

const FONT_STEPS = 6;
const darkByDefault = matchMedia("(prefers-color-scheme: dark)");

/** Applies the appearance in `settings` to the page; `changed` is called after every change. */
export class Appearance {
  constructor(settings, changed) {
    this.settings = settings;
    this.changed = changed;
    darkByDefault.addEventListener("change", () => this.apply());
  }

  get dark() {
    return this.settings.theme === "auto" ? darkByDefault.matches : this.settings.theme === "dark";
  }

  toggleTheme() {
    this.settings.theme = this.dark ? "light" : "dark";
    this.apply();
  }

  resizeText(by) {
    this.settings.fontStep = Math.max(0, Math.min(FONT_STEPS - 1, this.settings.fontStep + by));
    this.apply();
  }

  toggleFullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => undefined);
  }

  apply() {
    const { fontStep, theme } = this.settings;
    const { dataset } = document.documentElement;
    dataset.fontStep = fontStep;
    if (theme === "auto") delete dataset.theme;
    else dataset.theme = theme;
    document.getElementById("theme").setAttribute("aria-pressed", String(this.dark));
    document.getElementById("smaller").disabled = fontStep === 0;
    document.getElementById("larger").disabled = fontStep === FONT_STEPS - 1;
    saveSettings(this.settings);
    this.changed();
  }
}
