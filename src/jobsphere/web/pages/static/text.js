// What a program wrote, as lines of plain text: whatever it holds, it is only ever shown.

const ESCAPES = /\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[P^_X][^\x1b]*(?:\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
// Marks that turn the order of text around: what follows them would look like something else.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;

export function clean(line) {
  // A program that draws its progress writes over the line: what stands last is what would be seen.
  const last = line.replace(/\r+$/, "");
  return last.slice(last.lastIndexOf("\r") + 1).replace(ESCAPES, "").replace(CONTROLS, "").replace(TURNING, "\ufffd");
}

export function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return new TextDecoder().decode(bytes);
}

// Text in pieces to whole lines; what follows the last line end waits for the next piece.
export class Lines {
  constructor(take) {
    this.take = take;
    this.rest = "";
  }

  add(text) {
    const parts = (this.rest + text).split("\n");
    this.rest = parts.pop();
    for (const line of parts) this.take(line);
  }

  end() {
    if (this.rest) this.take(this.rest);
    this.rest = "";
  }
}
