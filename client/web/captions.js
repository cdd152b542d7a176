// Shows captions. Text is only appended, or the tail replaced, so that nothing flickers and a selection survives.

import { joinWords } from "./words.js";

const MAX_SHOWN = 400; // utterances, so that many hours of captions do not slow the page down
const NEAR_END_PX = 80;

/** Shows captions in `root`, which contains `[data-finals]` (a live region), `[data-current]` and `[data-latest]`. */
export class CaptionView {
  constructor(root) {
    this.root = root;
    this.finals = root.querySelector("[data-finals]");
    this.current = root.querySelector("[data-current]");
    this.latest = root.querySelector("[data-latest]");
    this.committed = this.current.appendChild(document.createTextNode(""));
    this.tail = this.current.appendChild(document.createElement("span"));
    this.tail.className = "tail";
    this.following = true;
    root.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.follow()).observe(root);
    this.latest.addEventListener("click", () => {
      this.following = true;
      this.follow();
    });
  }

  partial({ committed, tail }) {
    if (committed.startsWith(this.committed.data)) {
      const more = committed.slice(this.committed.data.length);
      if (more) this.committed.appendData(more);
    } else {
      this.committed.data = committed;
    }
    const shown = joinWords([committed, tail]).slice(committed.length);
    if (this.tail.textContent !== shown) this.tail.textContent = shown;
    this.follow();
  }

  final({ text }) {
    if (text) {
      const paragraph = document.createElement("p");
      paragraph.textContent = text;
      this.finals.append(paragraph);
      if (this.finals.childElementCount > MAX_SHOWN) this.finals.firstElementChild.remove();
    }
    this.partial({ committed: "", tail: "" });
  }

  clear() {
    this.finals.replaceChildren();
    this.partial({ committed: "", tail: "" });
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.root;
    if (this.following && this.size !== this.measure()) {
      this.follow(); // the window was resized; the user did not scroll
      return;
    }
    this.following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.latest.hidden = this.following;
  }

  follow() {
    if (!this.following) return;
    this.root.scrollTop = this.root.scrollHeight;
    this.size = this.measure();
    this.latest.hidden = true;
  }

  measure() {
    return `${this.root.scrollHeight} ${this.root.clientHeight}`;
  }
}
