"use strict";
(function () {
  const root = document.documentElement;
  const LEGEND_ROW = 30;
  const CELL = 40;  // least width of a figure per column of a grid with numbers in it: else they run into each other
  const errors = [];
  function report(message) {
    errors.push(String(message));
    root.setAttribute("data-errors", JSON.stringify(errors));
  }
  window.addEventListener("error", (event) => report(event.message));
  window.addEventListener("unhandledrejection", (event) => report(event.reason));

  const themes = JSON.parse(document.getElementById("themes").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const themeNow = () => themes[dark.matches ? "dark" : "light"];

  // Of a grid as plotly writes it: rows, or bytes with their shape.
  const columns = (grid) => grid.length || parseInt(grid.shape, 10);

  // Square figures follow the width of the page up to their design height; the rest keep that height.
  function heightFor(layout, width) {
    const meta = layout.meta || {};
    return meta.aspect ? Math.min(layout.height, Math.round(width * meta.aspect) + (meta.extra || 0)) : layout.height;
  }

  // A legend of many rows would eat the plot: give the figure the height that the rows need.
  function fit(plot, design) {
    const legend = plot.querySelector("g.legend");
    const rows = legend ? legend.getBBox().height : 0;
    const height = heightFor(design, plot.layout.width) + Math.max(0, Math.round(rows) - LEGEND_ROW);
    return height === plot.layout.height ? null : Plotly.relayout(plot, { height: height });
  }

  function download(plot, name, format) {
    const layout = Object.assign({}, plot.layout, {
      template: themes.light, paper_bgcolor: "#ffffff", title: undefined,
      width: plot.clientWidth, height: plot.clientHeight, autosize: false,
    });
    const copy = { data: plot.data, layout: layout, config: {} };
    return Plotly.downloadImage(copy, { format: format, filename: name, width: layout.width, height: layout.height, scale: 3 });
  }

  function button(text, title, action) {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.title = title;
    element.addEventListener("click", action);
    return element;
  }

  function choices(plot, menu, name, shown) {
    const select = document.createElement("select");
    select.setAttribute("aria-label", "What to show in " + name);
    menu.forEach((entry) => select.add(new Option(entry.label)));
    select.addEventListener("change", () => {
      const entry = menu[select.selectedIndex];
      Plotly.update(plot, entry.args[0], entry.args[1] || {});
      if (shown) shown.textContent = "Shown: " + entry.label + ". The numbers below do not change with the choice.";
    });
    return select;
  }

  // What the picture shows, in words: the caption follows the choice.
  function chosen(holder, first) {
    const line = document.createElement("p");
    line.className = "shown";
    line.setAttribute("role", "status");
    line.textContent = "Shown: " + first.label + ".";
    holder.querySelector(".plot").after(line);
    return line;
  }

  // A click on a square of a grid shows it alone, the next one shows the whole grid.
  function enlarge(plot, size) {
    let alone = false;
    plot.on("plotly_click", (event) => {
      const point = event.points && event.points[0];
      if (!point || !point.pointIndex) return;
      const [row, column] = point.pointIndex.map((index) => Math.floor(index / size) * size - 0.5);
      alone = !alone;
      Plotly.relayout(plot, alone
        ? { "xaxis.range": [column, column + size], "yaxis.range": [row + size, row] }
        : { "xaxis.autorange": true, "yaxis.autorange": "reversed" });
    });
  }

  // A closed list of buttons: the default one offers to upload the figure to a server.
  const config = {
    responsive: false,
    displaylogo: false,
    showSendToCloud: false,
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };

  async function draw(holder, content) {
    const name = holder.dataset.figure;
    const plot = holder.querySelector(".plot");
    content.layout.template = themeNow();
    const design = Object.assign({}, content.layout);
    content.layout.width = plot.clientWidth;
    content.layout.height = heightFor(design, plot.clientWidth);
    content.data.forEach((trace) => {
      if (trace.texttemplate && trace.type === "heatmap" && plot.clientWidth < CELL * columns(trace.z)) trace.texttemplate = "";
    });
    await Plotly.newPlot(plot, content.data, content.layout, config);
    plot.style.minHeight = "";
    await fit(plot, design);
    const tools = holder.querySelector(".tools");
    if (content.menu) tools.append(choices(plot, content.menu, name, chosen(holder, content.menu[0])));
    tools.append(
      button("SVG", "Download as SVG", () => download(plot, name, "svg")),
      button("PNG", "Download as PNG", () => download(plot, name, "png")),
    );
    if (design.meta && design.meta.square) enlarge(plot, design.meta.square);
    new ResizeObserver(() => {
      const width = plot.clientWidth;
      if (width > 0 && Math.abs(width - plot.layout.width) > 1) {
        Plotly.relayout(plot, { width: width, height: heightFor(design, width) }).then(() => fit(plot, design));
      }
    }).observe(holder);
    dark.addEventListener("change", () => Plotly.relayout(plot, { template: themeNow() }));
    holder.dataset.drawn = "true";
  }

  function tableAsText(table) {
    const cells = (row) => Array.from(row.cells, (cell) => (cell.dataset.exact || cell.textContent).replace(/\s+/g, " ").trim());
    return Array.from(table.rows, (row) => cells(row).join("\t")).join("\n") + "\n";
  }

  // Pages opened from a file may be denied the clipboard API: fall back to a selected text area.
  async function copyText(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (refused) {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  function enableCopy() {
    const trigger = document.getElementById("copy-metrics");
    if (!trigger) return;
    trigger.addEventListener("click", async () => {
      const text = tableAsText(document.getElementById(trigger.dataset.copy));
      document.getElementById("copied").textContent = (await copyText(text)) ? "copied" : "the browser refused; select the table by hand";
    });
  }

  // What is not drawn yet, by its figure; until then the figure keeps the height that it will have.
  const waiting = new Map();

  function prepare() {
    for (const holder of document.querySelectorAll("figure[data-figure]")) {
      waiting.set(holder, JSON.parse(holder.querySelector("script").textContent));
    }
    const heights = Array.from(waiting, ([holder, content]) => heightFor(content.layout, holder.querySelector(".plot").clientWidth));
    Array.from(waiting.keys()).forEach((holder, k) => { holder.querySelector(".plot").style.minHeight = heights[k] + "px"; });
  }

  async function drawOnce(holder) {
    const content = waiting.get(holder);
    if (!waiting.delete(holder)) return;
    try {
      await draw(holder, content);
    } catch (error) {
      report(holder.dataset.figure + ": " + error);
    }
  }

  // Figures are drawn when the reader is a screen away from them, one by one: between two the reader has a turn.
  function drawNear() {
    let last = Promise.resolve();
    const asked = new Set();
    const isNear = (box) => box.top < 2 * window.innerHeight && box.bottom > -window.innerHeight;
    function look() {
      for (const holder of waiting.keys()) {
        if (asked.has(holder) || !isNear(holder.getBoundingClientRect())) continue;
        asked.add(holder);
        last = last.then(() => new Promise((go) => setTimeout(go, 0))).then(() => drawOnce(holder));
      }
    }
    look();
    last.then(() => root.setAttribute("data-ready", "true"));
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    document.addEventListener("toggle", look, true);
    window.addEventListener("beforeprint", () => Array.from(waiting.keys()).forEach(drawOnce));
  }

  enableCopy();
  prepare();
  drawNear();
})();
