// Makes a page live: its cells can be edited, and run by the server of `make live`.
//
// That server hands out the page and Thebe, which brings editors, kernels and widgets.
// Here is what lies between Thebe and this book: which element is a cell, that a cell
// runs after those above it, and what to say when something is not as it should be.
(() => {
  const pages = new URL(document.documentElement.dataset.content_root, location.href);
  const server = new URL("..", pages);
  const MESSAGES = {
    snapshot: "Nothing here can run code: this page is a snapshot. Type “make live” in the book's repository. It opens this book with a server that runs its cells.",
    token: "The server does not know this browser. Open the address that “make live” has printed, with its token.",
    silent: "The server does not answer. Is “make live” still running?",
    starting: "Starting Python …",
    ready: "Live. Run a cell, and those above it run first. Shift and Enter do the same.",
    died: "Python died and was started again: what the cells had computed is gone. Run them again.",
    gone: "Python was stopped, here or by the server. Load this page again to start anew.",
    lost: "The connection to Python is lost. Trying again …",
    restarted: "Python was started again. No cell has run.",
    failed: "Python could not be started. The server says why, where “make live” was typed.",
  };
  // Thebe asks a remote address for a loader of widgets by other authors. It has those
  // of ipywidgets itself, which are all that the book uses.
  const LOADER = `
    window.define = () => {};
    window.require = (names, found, missing) =>
      missing(new Error("a live page has the widgets of ipywidgets only, not " + names));
    window.require.config = () => {};
    window.require.defined = () => false;`;

  // The bar at the foot of the page: words, and buttons while a kernel is there.
  const bar = document.createElement("div");
  bar.className = "lqr-bar";
  const words = bar.appendChild(document.createElement("p"));
  words.setAttribute("role", "status");
  const say = (...parts) => {
    if (!bar.isConnected) document.body.append(bar);
    words.replaceChildren(...parts);
  };
  const saying = (message) => words.textContent === message;
  const button = (name, act) => {
    const made = bar.appendChild(document.createElement("button"));
    made.textContent = name;
    made.onclick = act;
  };

  // Why this page cannot be made live; nothing if it can.
  const obstacle = async () => {
    if (location.protocol === "file:") return MESSAGES.snapshot;
    try {
      const { status } = await fetch(new URL("api/kernels", server));
      return status === 403 ? MESSAGES.token : status === 200 ? "" : MESSAGES.snapshot;
    } catch {
      return MESSAGES.silent;
    }
  };

  const fetchThebe = async () => {
    const { fetch } = window;
    window.fetch = (what, ...rest) =>
      String(what).endsWith("/require.min.js")
        ? Promise.resolve(new Response(LOADER))
        : fetch(what, ...rest);
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("thebe/thebe.css", server);
    document.head.prepend(style); // before the book's own style, which has the last word
    const script = document.createElement("script");
    script.src = new URL("thebe/index.js", server);
    const arrived = new Promise((ok, missing) => {
      script.onload = ok;
      script.onerror = missing;
    });
    document.head.append(script);
    await arrived;
  };

  // The cells of the page. Each keeps what the build has computed until it first runs.
  const cells = [...document.querySelectorAll(".cell")]
    .filter((cell) => cell.querySelector(".cell_input pre"))
    .map((cell) => ({ element: cell, ran: false }));

  const prepare = ({ element }) => {
    const source = element.querySelector(".cell_input pre");
    source.closest(".highlight").replaceWith(source);
    source.dataset.executable = "";
    const output = document.createElement("div");
    output.className = "lqr-output output_area"; // where MathJax looks for formulas
    output.dataset.output = "";
    const snapshot = element.querySelector(".cell_output");
    const caption = snapshot?.querySelector("figcaption");
    if (caption) caption.before(output);
    else element.append(output);
  };

  const clearSnapshot = ({ element }) => {
    const output = element.querySelector(".lqr-output");
    const figure = output.closest("figure");
    const snapshot = element.querySelector(".cell_output");
    const explorer = snapshot?.querySelector(".lqr-explorer");
    if (explorer) output.id = explorer.id; // links to it still find it
    if (!figure) return snapshot?.remove();
    for (const part of [...figure.children])
      if (part !== output && part.tagName !== "FIGCAPTION") part.remove();
    let kept = figure;
    while (kept.parentElement !== snapshot) kept = kept.parentElement;
    snapshot.replaceChildren(kept);
  };

  const theme = () => (document.documentElement.dataset.theme === "dark" ? "darcula" : "default");

  let begun = false;
  const goLive = async () => {
    if (begun) return;
    begun = true;
    const reason = await obstacle();
    begun = !reason; // what stands in the way may be gone at the next press
    bar.replaceChildren(words);
    if (reason) {
      button("Close", () => bar.remove());
      return say(reason);
    }
    say(MESSAGES.starting);
    try {
      await start();
      say(MESSAGES.ready);
    } catch {
      say((await obstacle()) || MESSAGES.failed);
    }
  };

  const start = async () => {
    await fetchThebe();
    cells.forEach(prepare);
    const { session, notebook } = await thebe.bootstrap({
      useBinder: false,
      requestKernel: true,
      mountRunAllButton: false,
      mountRestartButton: false,
      mountRestartAllButton: false,
      mathjaxUrl: "none", // without one Thebe shows no formula; `attend` gives it the page's
      codeMirrorConfig: { theme: theme(), lineNumbers: false },
      // The server gives one kernel to each name: a page shares its kernel with no other.
      kernelOptions: { kernelName: "python3", path: `/live-${crypto.randomUUID()}.ipynb` },
      serverSettings: { baseUrl: server.href, token: "", appendToken: false },
    });
    await session.kernel.info; // Python has answered, so that a later start is another
    attend(session, notebook);
  };

  const attend = (session, notebook) => {
    const forget = () => cells.forEach((cell) => { cell.ran = false; });
    let edited = false, asked = false, queue = Promise.resolve();
    notebook.rendermime.latexTypesetter = {
      typeset: (node) => window.MathJax?.typesetPromise?.([node]),
    };

    const run = async (i, source) => {
      const { execute, element } = cells[i];
      say(`Running cell ${i + 1} of ${cells.length} …`);
      clearSnapshot(cells[i]);
      element.setAttribute("aria-busy", "true");
      const result = await execute(source);
      element.removeAttribute("aria-busy");
      cells[i].ran = Boolean(result && !result.error);
      if (result?.error) {
        const link = document.createElement("a");
        link.href = `#${element.id}`;
        link.textContent = `Cell ${i + 1}`;
        const { ename, evalue } = result.error[0];
        say(link, ` stopped with ${ename}: ${evalue}.`);
      }
      return result;
    };
    // A cell, after those above it that have not run. The first that stops ends it.
    const runUpTo = async (last, source) => {
      let result;
      for (let i = 0; i <= last; i++) {
        if (i < last && cells[i].ran) continue;
        result = await run(i, i === last ? source : undefined);
        if (!cells[i].ran) return result;
      }
      say(MESSAGES.ready);
      return result;
    };
    notebook.cells.forEach((cell, i) => {
      cells[i].execute = cell.execute.bind(cell);
      cell.execute = (source) => (queue = queue.then(() => runUpTo(i, source)));
    });

    // Folded code can be run without being unfolded.
    for (const { element } of cells)
      element.querySelector("details.above-input")
        ?.after(element.querySelector(".thebe-controls"));
    for (const { CodeMirror: editor } of document.querySelectorAll(".CodeMirror")) {
      editor.on("change", () => { edited = true; });
      editor.getInputField().setAttribute("aria-label", "Code of this cell");
      new MutationObserver(() => editor.setOption("theme", theme()))
        .observe(document.documentElement, { attributeFilter: ["data-theme"] });
    }
    addEventListener("beforeunload", (event) => edited && event.preventDefault());

    session.kernel.statusChanged.connect((_, status) => {
      // The news of a restart can be lost with the connection; that of a start is not.
      if (status === "autorestarting" || (status === "starting" && !asked))
        forget(), say(MESSAGES.died);
      if (status === "dead") say(MESSAGES.gone);
    });
    session.kernel.connectionStatusChanged.connect((_, status) => {
      // Who has been told of a death need not hear of the connection that went with it.
      if (status === "connecting" && !saying(MESSAGES.died)) say(MESSAGES.lost);
      if (status === "connected" && saying(MESSAGES.lost)) say(MESSAGES.ready);
      if (status === "disconnected")
        obstacle().then((reason) => say(reason || MESSAGES.gone));
    });
    button("Run all", () => { forget(); notebook.cells.at(-1).execute(); });
    button("Stop", () => session.kernel.interrupt());
    button("Restart", async () => {
      asked = true;
      await session.restart();
      await session.kernel.info;
      asked = false;
      forget();
      say(MESSAGES.restarted);
    });
  };

  if (pages.pathname.endsWith("/read/"))
    document.querySelector(".lqr-live").textContent =
      "To run the cells here, press Live at the top of the page.";
  window.lqrLive = goLive;
})();
