// Puts one explorer in motion: reads its controls, swaps paths and words. No library.
(async (root) => {
  const find = (part) => root.querySelector(".lqr-" + part);
  const spec = JSON.parse(find("spec").textContent);
  const { controls, artists, scale, offset, gap } = spec;
  const unpack = async (part) => {
    const bytes = Uint8Array.from(atob(find(part).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream();
    const inflated = stream.pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(inflated).arrayBuffer());
  };
  const texts = JSON.parse(new TextDecoder().decode(await unpack("texts")));
  const raw = await unpack("points");
  const states = texts.length, half = raw.length / 2, total = half / states / 2;
  const numbers = new Uint16Array(half); // [x or y, point, state], undoing the differences
  for (let i = 0; i < half; i++)
    numbers[i] = raw[i] + 256 * raw[half + i] + (i % states ? numbers[i - 1] : 0);

  const form = find("controls"), inputs = controls.map((c) => form.elements[c.name]);
  let first = 0;
  for (const artist of artists) {
    artist.node = document.getElementById(artist.id);
    artist.path = artist.node.querySelector(":scope > path");
    artist.marks = [...artist.node.querySelectorAll("use")];
    artist.first = first;
    first += artist.points;
  }

  const draw = () => {
    const at = inputs.map((input) => Number(input.value));
    const state = at.reduce((s, v, i) => s * controls[i].written.length + v, 0);
    const read = (axis, point) => numbers[(axis * total + point) * states + state];
    for (const { kind, path, marks, first, points } of artists) {
      let d = "", pen = "M";
      for (let p = first; p < first + points; p++) {
        const x = read(0, p), y = read(1, p);
        if (x === gap || y === gap) { pen = "M"; continue; }
        const px = x / scale - offset, py = y / scale - offset;
        if (kind === "markers") {
          marks[p - first].setAttribute("x", px);
          marks[p - first].setAttribute("y", py);
        } else d += pen + px + " " + py;
        pen = "L";
      }
      if (kind !== "markers") path.setAttribute("d", kind === "area" ? d + "Z" : d);
    }
    controls.forEach((control, i) => {
      if (inputs[i].type !== "range") return;
      inputs[i].setAttribute("aria-valuetext", control.spoken[at[i]]);
      inputs[i].nextElementSibling.textContent = control.spoken[at[i]];
    });
    find("words").textContent = texts[state];
    root.querySelector(".lqr-call code").textContent = controls.reduce(
      (call, c, i) => call.replaceAll(`{${c.name}}`, c.written[at[i]]), spec.call);
    return at;
  };

  const restart = () => controls.forEach((c, i) => { inputs[i].value = c.start; });
  const write = (fragment) =>
    history.replaceState(null, "", location.pathname + location.search + fragment);
  const remember = () => {
    const at = draw();
    const state = controls.map((c, i) => `${c.name}=${encodeURIComponent(c.keys[at[i]])}`);
    write(`#${spec.name}:${state.join(",")}`);
  };
  const recall = () => {
    const [name, state] = location.hash.slice(1).split(":");
    if (name !== spec.name || !state) return;
    for (const pair of state.split(",")) {
      const [key, value] = pair.split("=");
      const i = controls.findIndex((c) => c.name === key);
      const at = i < 0 ? -1 : controls[i].keys.map(encodeURIComponent).indexOf(value);
      if (at >= 0) inputs[i].value = at;
    }
    draw();
    root.scrollIntoView();
  };
  form.addEventListener("input", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    restart();
    draw();
    write("");
  });
  addEventListener("hashchange", recall);
  restart();
  draw();
  recall();
  form.hidden = false;
})(document.currentScript.closest(".lqr-explorer"));
