"use strict";
// Text of people and of models becomes text nodes, and nothing else: no markup is ever made of it.

const about = JSON.parse(document.getElementById("about").textContent);
document.documentElement.classList.add("script");

// Elements

/** An element with properties and children; a string among the children is text. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "style") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else if (key.startsWith("on") || key in element && !key.startsWith("aria-")) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const visible = (text) => ({ "\n": "⏎", " ": "␣", "\t": "⇥", "<eos>": "⏎", "</s>": "⏎" }[text] ?? text);
/** A string of a model: bytes that are no text come in base64. */
const bytesOf = (value) => typeof value === "string" ? new TextEncoder().encode(value) : Uint8Array.from(atob(value.b64), (c) => c.charCodeAt(0));
/** Bytes as a request takes them. */
function stringOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { b64: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
  }
}
const textOf = (value) => typeof value === "string" ? value : new TextDecoder().decode(bytesOf(value));

/** Rows of a name, a bar and a number; a name may be an element. */
function bars(rows, wide = false) {
  const most = Math.max(...rows.map((row) => row.share), 1e-9);
  return make("div", { className: wide ? "bars wide-names" : "bars" }, ...rows.flatMap((row, index) => [
    row.element ?? make("span", {}, row.name),
    make("span", { className: index ? "bar" : "bar best", "aria-hidden": "true" },
      make("i", { style: { width: `${100 * row.share / (row.of ?? most)}%` } })),
    make("span", {}, row.text),
  ]));
}

// Asking

class Refused extends Error {}

/** One row of answers, the version that gave it and the milliseconds that it took. */
async function ask(model, instance, signature, signal) {
  const body = JSON.stringify({ ...(signature ? { signature_name: signature } : {}), instances: [instance] });
  const begun = performance.now();
  const response = await fetch(`v1/models/${encodeURIComponent(model)}:predict`, {
    method: "POST", body, signal, headers: { "Content-Type": "application/json" },
  });
  const content = await response.json().catch(() => null); // a proxy's own page, or numbers that are none
  if (!content || !response.ok) throw new Refused(content?.error ?? `HTTP ${response.status}, and no JSON that a page can read`);
  return {
    row: content.predictions[0], body, milliseconds: performance.now() - begun, version: response.headers.get("X-Model-Version"),
  };
}

// Ways of drawing, by the kind that a task's view names. `inputs`: what is typed, in the order of the examples; `answer` draws into `place`,
// and returns the request that does the same, where that is not the first it made.

const views = {
  label: {
    inputs: [{ name: "texts", label: "Text", rows: 3 }],
    async answer({ typed, place, ask }) {
      const { row } = await ask({ texts: typed.texts });
      const found = row.labels.map((label, index) => ({ name: textOf(label), share: row.probabilities[index], of: 1 }));
      found.sort((a, b) => b.share - a.share);
      place.replaceChildren(
        make("p", { className: "big" }, textOf(row.label)),
        bars(found.slice(0, 30).map((each) => ({ ...each, text: percent(each.share) }))),
      );
    },
  },

  tags: {
    inputs: [{ name: "texts", label: "Text", rows: 3 }],
    async answer({ typed, place, view, ask }) {
      const { row } = await ask({ texts: typed.texts });
      const characters = Array.from(typed.texts);
      const pieces = view.spans ? spans(row) : Array.from({ length: row.lengths }, (_, i) => ({
        tag: textOf(row.tags[i]), start: row.starts[i], end: row.ends[i], score: row.scores[i],
      }));
      const kinds = [...new Set(pieces.map((piece) => piece.tag))].sort();
      const order = [...new Set([...Object.keys(view.meanings), ...kinds])].sort();
      const hue = (tag) => String(Math.round(137.5 * order.indexOf(tag)) % 360);
      const parts = [];
      let written = 0;
      for (const piece of pieces) {
        parts.push(characters.slice(written, piece.start).join(""));
        const meaning = view.meanings[piece.tag] ? `${piece.tag}: ${view.meanings[piece.tag]}, ${percent(piece.score)}` : `${piece.tag}, ${percent(piece.score)}`;
        parts.push(make("ruby", { title: meaning, className: piece.score < 0.5 ? "unsure" : "", style: { "--hue": hue(piece.tag) } },
          characters.slice(piece.start, piece.end).join(""), make("rt", {}, piece.tag)));
        written = piece.end;
      }
      parts.push(characters.slice(written).join(""));
      place.replaceChildren(
        make("p", { className: "tagged" }, ...parts),
        make("ul", { className: "meanings" }, ...kinds.map((tag) => make("li", {},
          make("span", { className: "legend-tag", style: { "--hue": hue(tag) } }, tag), view.meanings[tag] ? ` ${view.meanings[tag]}` : ""))),
        ...(pieces.some((piece) => piece.score < 0.5) ? [make("p", { className: "soft" }, "Dotted: the model is not sure.")] : []),
        ...(pieces.length ? [] : [make("p", { className: "soft" }, view.spans ? "No names were found." : "No words.")]),
      );
    },
  },

  continuation: {
    inputs: [{ name: "prompt", label: "Text to go on with", rows: 3 }],
    button: "Go on",
    example: (texts) => [texts[0].trim().split(/\s+/).slice(0, 5).join(" ")],
    options: [
      { name: "length", label: "Tokens", value: 60, min: 1, max: 2000, step: 1 },
      { name: "temperature", label: "Temperature", value: 0.8, min: 0, max: 10, step: 0.1 },
      { name: "seed", label: "Seed", value: 1, min: 0, max: 2147483647, step: 1 },
    ],
    async answer({ typed, options, place, view, ask, fill, again, isOver }) {
      let bytes = new TextEncoder().encode(typed.prompt);
      const given = bytes.length;
      const rest = make("b");
      const candidates = make("div", { className: "candidates", role: "group", "aria-label": "Next" });
      const next = make("div", { hidden: true }, make("p", { className: "soft" }, "What may come next, now:"), candidates);
      place.replaceChildren(make("p", { className: "written" }, typed.prompt, rest), next);
      const encoded = () => stringOf(bytes);
      const show = async () => {
        const { row } = await ask({ texts: encoded() });
        const text = () => new TextDecoder().decode(bytes);
        candidates.replaceChildren(...row.tokens.map((token, index) => {
          const name = textOf(token);
          const next = name === "<eos>" ? "\n" : (view.unit === "words" && !/(^|\s)$/.test(text()) ? " " : "") + name;
          return name && make("button", { type: "button", disabled: name === "<unk>", onclick: () => { fill({ prompt: text() + next }); again({ length: 0 }); } },
            visible(name), " ", make("small", {}, percent(row.probabilities[index])));
        }).filter(Boolean));
        next.hidden = false;
      };
      let left = options.length;
      let unknown = "";
      while (left > 0 && !isOver()) {
        const length = Math.min(left, view.unit === "words" ? 4 : 12);
        const { row } = await ask({ prompts: encoded(), length, temperature: options.temperature, top_k: 0, top_p: 1, seed: options.seed }, "generate");
        if (bytes.length === given && textOf(row.unknown)) unknown = textOf(row.unknown);
        const part = bytesOf(row.text);
        const longer = new Uint8Array(bytes.length + part.length);
        longer.set(bytes);
        longer.set(part, bytes.length);
        bytes = longer;
        left -= length;
        rest.textContent = new TextDecoder().decode(bytes.subarray(given));
      }
      await show();
      if (unknown) place.append(make("p", { className: "soft" }, `The training text never had: ${unknown}`));
      const { temperature, seed } = options;
      return { signature_name: "generate", instances: [{ prompts: typed.prompt, length: options.length, temperature, top_k: 0, top_p: 1, seed }] };
    },
  },

  translation: {
    inputs: [{ name: "texts", label: "Text", rows: 3 }],
    options: [{ name: "counts", label: "Translations", value: 3, min: 1, max: 20, step: 1 }],
    async answer({ typed, options, place, view, ask }) {
      const { row } = await ask({ texts: typed.texts, beams: Math.max(view.beam, options.counts), counts: options.counts }, "n_best");
      const grid = make("div", { className: "grid" });
      const texts = row.translations.slice(0, row.lengths).map(textOf);
      let drawn = 0;
      const draw = async (index) => {
        drawn = index;
        buttons.forEach((button, each) => button.setAttribute("aria-pressed", String(each === index)));
        if (!view.aligns) return;
        try {
          const aligned = await ask({ sources: typed.texts, targets: texts[index] }, "align");
          if (drawn === index) grid.replaceChildren(alignment(aligned.row)); // or another one was pressed meanwhile
        } catch (error) {
          if (drawn === index) grid.replaceChildren(make("p", { className: "problem", role: "alert" }, error.message));
        }
      };
      const buttons = texts.map((text, index) => make("button", { type: "button", "aria-pressed": "false", onclick: () => draw(index) }, text || "(nothing)"));
      const found = row.log_probabilities.slice(0, row.lengths);
      place.replaceChildren(
        make("p", { className: "big" }, texts[0] ?? ""),
        bars(texts.map((text, index) => ({ element: buttons[index], share: Math.exp(found[index] - found[0]), text: found[index].toFixed(2) })), true),
        make("p", { className: "soft" }, "Log-probability of each; the bars are relative to the best.", view.aligns ? " Below: which word looked at which. Point at one, or tab to it." : ""),
        grid,
      );
      if (texts.length) draw(0); // not waited for: the answer is there, what follows cannot stop it
    },
  },

  passage: {
    inputs: [{ name: "questions", label: "Question", rows: 1 }, { name: "passages", label: "Passage", rows: 8 }],
    options: [{ name: "counts", label: "Answers", value: 3, min: 1, max: 20, step: 1 }],
    async answer({ typed, options, place, ask }) {
      const { row } = await ask({ questions: typed.questions, passages: typed.passages, counts: options.counts }, "n_best");
      const characters = Array.from(typed.passages);
      const passage = make("p", { className: "passage" });
      const texts = row.answers.slice(0, row.lengths).map(textOf);
      const mark = (index) => {
        buttons.forEach((button, each) => button.setAttribute("aria-pressed", String(each === index)));
        passage.replaceChildren(
          characters.slice(0, row.starts[index]).join(""),
          make("mark", {}, characters.slice(row.starts[index], row.ends[index]).join("")),
          characters.slice(row.ends[index]).join(""),
        );
      };
      const buttons = texts.map((text, index) => make("button", { type: "button", "aria-pressed": "false", onclick: () => mark(index), onfocus: () => mark(index), onmouseenter: () => mark(index) }, text));
      place.replaceChildren(
        make("p", { className: "big" }, texts[0] ?? "No answer"),
        bars(texts.map((text, index) => ({ element: buttons[index], share: row.scores[index], of: 1, text: percent(row.scores[index]) })), true),
        passage,
      );
      if (texts.length) mark(0);
      else passage.textContent = typed.passages;
    },
  },

  neighbours: {
    inputs: [{ name: "words", label: "A word, or three: a is to b as c is to …", rows: 1 }],
    options: [{ name: "counts", label: "Words", value: 10, min: 1, max: 100, step: 1 }],
    async answer({ typed, options, place, ask, fill, again }) {
      const [a, b, c, ...more] = typed.words.trim().split(/\s+/);
      const isAnalogy = c !== undefined && !more.length;
      const { row } = isAnalogy ? await ask({ a, b, c, counts: options.counts }, "analogy") : await ask({ words: typed.words.trim(), counts: options.counts }, "neighbours");
      const found = (isAnalogy ? row.words : row.neighbours).map(textOf);
      const words = found.map((word, index) => ({
        element: make("button", { type: "button", onclick: () => { fill({ words: word }); again(); } }, word),
        share: Math.max(0, row.cosines[index]), of: 1, text: row.cosines[index].toFixed(3),
      })).filter((_, index) => found[index]);
      const strange = [row.known].flat().every((known) => known) ? "" : "Not every word is in the vocabulary. ";
      place.replaceChildren(
        ...(isAnalogy ? [make("p", { className: "big" }, `${a} : ${b} = ${c} : ${found[0] || "?"}`)] : []),
        ...(words.length ? [bars(words)] : []),
        make("p", { className: "soft" }, strange, words.length ? "The bars are cosines." : "Nothing is near."),
      );
    },
  },

  story: {
    inputs: [{ name: "stories", label: "Story, a fact a line", rows: 8 }, { name: "questions", label: "Question", rows: 1 }],
    async answer({ typed, place, ask }) {
      const { row } = await ask({ stories: typed.stories, questions: typed.questions });
      const facts = row.facts.slice(0, row.lengths).map(textOf);
      const cells = (fact) => row.gates.map((gates, episode) => make("td", { title: `episode ${episode + 1}: ${percent(gates[fact])}` },
        make("i", { style: { opacity: String(gates[fact]) } })));
      place.replaceChildren(
        make("p", { className: "big" }, textOf(row.answers) || "No answer", " ", make("small", {}, percent(row.scores))),
        make("div", { className: "grid" }, make("table", {},
          make("thead", {}, make("tr", {}, make("th", {}, "fact"), ...row.gates.map((_, episode) => make("th", {}, String(episode + 1))))),
          make("tbody", {}, ...facts.map((fact, index) => make("tr", {}, make("th", { scope: "row" }, fact), ...cells(index)))))),
        make("p", { className: "soft" }, "How much each episode of the memory looked at each fact."),
      );
    },
  },
};

/** Any other model: its inputs by name, numbers and lists as JSON, and its outputs as JSON. */
function plain(inputs) {
  return {
    inputs: Object.entries(inputs).map(([name, [dtype]]) => ({ name, label: `${name} (${dtype})`, rows: 2, text: dtype === "string" })),
    async answer({ typed, place, ask }) {
      const instance = Object.fromEntries(this.inputs.map(({ name, text }) => [name, text ? typed[name] : JSON.parse(typed[name])]));
      const { row } = await ask(instance);
      place.replaceChildren(make("pre", {}, JSON.stringify(row, null, 1)));
    },
  };
}

/** Tags in BIO as spans; words outside of them stay text. */
function spans(row) {
  const found = [];
  for (let i = 0; i < row.lengths; i += 1) {
    const tag = textOf(row.tags[i]);
    const kind = tag.slice(2);
    const last = found.at(-1);
    if (tag.startsWith("I-") && last && last.tag === kind && last.to === i) Object.assign(last, { end: row.ends[i], to: i + 1, score: Math.min(last.score, row.scores[i]) });
    else if (tag !== "O") found.push({ tag: kind, start: row.starts[i], end: row.ends[i], to: i + 1, score: row.scores[i] });
  }
  return found;
}

/** Pieces as words, and of which pieces each is. */
function words(pieces) {
  const found = [];
  pieces.forEach((piece, index) => {
    const begins = piece.startsWith("▁") || piece === "</s>" || /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Myanmar}\p{Script=Khmer}]/u.test(piece);
    if (!found.length || begins) found.push({ text: "", pieces: [] });
    found.at(-1).text += piece.replace(/^▁/, "");
    found.at(-1).pieces.push(index);
  });
  return found.map((word) => ({ ...word, text: visible(word.text) || "␣" }));
}

/** How much each word of a translation looked at each of its source: a grid that lights up where it is pointed at or focused. */
function alignment(row) {
  const [sources, targets] = [row.sources, row.targets].map((pieces) => words(pieces.map(textOf).filter((piece) => piece)));
  const weight = (target, source) => target.pieces.reduce((sum, i) => sum + source.pieces.reduce((part, j) => part + row.alignments[i][j], 0), 0) / target.pieces.length;
  const table = make("table");
  const light = (r, c) => {
    table.querySelectorAll("tbody tr").forEach((line, index) => line.classList.toggle("lit", index === r));
    table.querySelectorAll("thead th.word").forEach((head, index) => {
      const strong = r !== null && weight(targets[r], sources[index]) > 0.2;
      head.classList.toggle("lit", index === c || strong);
    });
    table.querySelectorAll("tbody th").forEach((head, index) => {
      const strong = c !== null && weight(targets[index], sources[c]) > 0.2;
      head.classList.toggle("lit", index === r || strong);
    });
    table.querySelectorAll("td").forEach((cell) => cell.classList.toggle("lit", c !== null && Number(cell.dataset.column) === c));
  };
  const word = (text, r, c) => make("button", { type: "button", onfocus: () => light(r, c), onmouseenter: () => light(r, c), onclick: () => light(r, c) }, text);
  table.append(
    make("thead", {}, make("tr", {}, make("th"), ...sources.map((source, c) => make("th", { className: "word", scope: "col" }, word(source.text, null, c))))),
    make("tbody", {}, ...targets.map((target, r) => make("tr", {}, make("th", { scope: "row" }, word(target.text, r, null)),
      ...sources.map((source, c) => {
        const share = weight(target, source);
        const cell = make("td", { title: `${target.text} → ${source.text}: ${percent(share)}`, onmouseenter: () => light(r, c) }, make("i", { style: { opacity: String(share) } }));
        cell.dataset.column = String(c);
        return cell;
      })))),
  );
  table.onmouseleave = () => light(null, null);
  return table;
}

// A place to try a model

function tryOut(section, model) {
  const { version, view, inputs, examples } = about[model];
  const kind = views[view.kind] ?? plain(inputs);
  const fields = Object.fromEntries(kind.inputs.map(({ name, rows }) => [name, make("textarea", { rows, spellcheck: false })]));
  const options = Object.fromEntries((kind.options ?? []).map(({ name, label, ...given }) => [name, { label, input: make("input", { type: "number", ...given }) }]));
  const place = make("div", { className: "answer", "aria-live": "polite" });
  const facts = make("div", { className: "about" });
  const command = make("pre");
  const button = make("button", { type: "submit", className: "main" }, kind.button ?? "Answer");
  let running = null;

  const fill = (texts) => Object.entries(texts).forEach(([name, text]) => { fields[name].value = text; });
  const typed = () => Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value]));
  const chosen = () => Object.fromEntries(Object.entries(options).map(([name, { input }]) => [name, input.valueAsNumber]));

  async function answer(changed = {}) {
    running?.abort();
    const mine = running = new AbortController();
    let first = null;
    let same = null;
    const counted = async (instance, signature) => {
      const found = await ask(model, instance, signature, mine.signal);
      first ??= found;
      return found;
    };
    button.textContent = "Stop";
    try {
      same = await kind.answer({
        typed: typed(), options: { ...chosen(), ...changed }, place, view, fill, ask: counted, again: answer, isOver: () => mine.signal.aborted,
      });
    } catch (error) {
      if (mine.signal.aborted) return;
      const text = error instanceof Refused ? error.message : error instanceof SyntaxError ? `not JSON: ${error.message}` : `no answer: ${error.message}`;
      place.replaceChildren(make("p", { className: "problem", role: "alert" }, text));
    } finally {
      if (running === mine) {
        running = null;
        button.textContent = kind.button ?? "Answer";
      }
    }
    if (first) told(first, same ? JSON.stringify(same) : first.body);
  }

  function told({ milliseconds, version: answered }, body) {
    const latency = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
    facts.replaceChildren(make("span", {}, `answered in ${latency}`), make("span", {}, `version ${answered ?? version}`));
    const url = new URL(`v1/models/${encodeURIComponent(model)}:predict`, document.baseURI);
    command.textContent = `curl -d '${body.replaceAll("'", "'\\''")}' ${url.href}`;
  }

  const lists = (examples ?? []).map((example) => example.map((value) => Array.isArray(value) ? value.join(" ") : String(value)));
  const prepared = lists.map((texts) => kind.example ? kind.example(texts) : texts);
  const select = make("select", {
    onchange: () => {
      if (!select.value) return;
      fill(Object.fromEntries(kind.inputs.map(({ name }, index) => [name, prepared[Number(select.value)][index] ?? ""])));
      answer();
    },
  }, make("option", { value: "" }, "choose one"), ...prepared.map((texts, index) => make("option", { value: String(index) }, texts.join(" · ").slice(0, 90))));
  const form = make("form", {
    onsubmit: (event) => {
      event.preventDefault();
      if (running) {
        running.abort();
        running = null;
        facts.replaceChildren(); // those of an earlier answer
        button.textContent = kind.button ?? "Answer";
      } else answer();
    },
    onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); answer(); }
    },
  }, ...kind.inputs.map(({ name, label }) => make("label", {}, label, fields[name])),
  make("div", { className: "controls" },
    button,
    ...Object.values(options).map(({ label, input }) => make("label", {}, label, input)),
    ...(prepared.length ? [make("label", { className: "spread" }, "Examples", select)] : [])));
  section.querySelector(".try").append(form, place, facts, make("details", { className: "curl" }, make("summary", {}, "The same from a terminal"), command));
}

// Which model is shown stands behind # in the address

const sections = [...document.querySelectorAll("section.model")];
sections.forEach((section) => tryOut(section, section.dataset.model));

function show() {
  const shown = sections.find((section) => location.hash === `#${section.dataset.model}` || location.hash === `#${encodeURI(section.dataset.model)}`) ?? sections[0];
  sections.forEach((section) => section.classList.toggle("shown", section === shown));
  document.querySelectorAll("nav a").forEach((link) => {
    if (shown && link.textContent === shown.dataset.model) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  });
}
addEventListener("hashchange", show);
show();
