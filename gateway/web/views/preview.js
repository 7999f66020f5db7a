// @ts-check
/** A file over the whole window, and its neighbours by the arrow keys. */

import { contentPath, save } from "../actions.js";
import { problemOf, slowly } from "../api.js";
import { fill, h } from "../dom.js";
import { bytes, kindName, kindOf } from "../format.js";
import { icon, nodeIcon } from "../icons.js";
import { words } from "../words.js";
import { loading } from "./blank.js";

/** @import {Node} from "../api.js" */

/** Of a text this much is shown. */
const TEXT_BYTES = 1 << 20;
/** Nothing but a viewer of its own could show these. */
const OPAQUE = new Set(["archive", "document", "slides", "link", "folder"]);

/** @param {Node} node */
export function previewable(node) {
  return node.kind === "file";
}

/**
 * @typedef {object} PreviewOptions
 * @property {string} space
 * @property {Node[]} nodes the files that can be turned to
 * @property {string} id
 * @property {(id: string) => void} turned
 * @property {() => void} closed
 * @property {(anchor: HTMLElement, node: Node) => void} [menu]
 * @property {(node: Node, disposition: "inline" | "attachment") => string} [address] of the content
 */

export class Preview {
  id;
  #options;
  #nodes;
  #shown = "";
  #loading = new AbortController();
  #picture = h("span", { class: "preview-icon" });
  #name = h("h2", { id: "preview-name" });
  #place = h("span", { class: "preview-place", role: "status" });
  #stage = h("div", { class: "preview-stage" });
  #previous = h(
    "button",
    {
      type: "button",
      class: "icon-button preview-turn previous",
      "aria-label": "Previous file",
      on: { click: () => this.#turn(-1) },
    },
    icon("back"),
  );
  #next = h(
    "button",
    { type: "button", class: "icon-button preview-turn next", "aria-label": "Next file", on: { click: () => this.#turn(1) } },
    icon("next"),
  );

  /** @param {PreviewOptions} options */
  constructor(options) {
    this.#options = options;
    this.#nodes = options.nodes;
    this.id = options.id;
    const more = h(
      "button",
      {
        type: "button",
        class: "icon-button",
        "aria-label": "Actions",
        "aria-haspopup": "menu",
        on: { click: () => this.node && options.menu?.(more, this.node) },
      },
      icon("more"),
    );
    this.element = h(
      "dialog",
      { class: "preview", "aria-labelledby": "preview-name" },
      h(
        "header",
        { class: "preview-head" },
        this.#picture,
        this.#name,
        this.#place,
        h(
          "button",
          {
            type: "button",
            class: "icon-button",
            "aria-label": "Download",
            title: "Download",
            on: { click: () => this.#download() },
          },
          icon("download"),
        ),
        options.menu && more,
        h(
          "button",
          {
            type: "button",
            class: "icon-button",
            "aria-label": "Close preview",
            title: "Close",
            autofocus: true,
            on: { click: () => this.element.close() },
          },
          icon("close"),
        ),
      ),
      h("div", { class: "preview-body" }, this.#previous, this.#stage, this.#next),
    );
    this.element.addEventListener("keydown", (event) => this.#keyed(event));
    this.element.addEventListener("close", () => {
      this.#loading.abort();
      this.element.remove();
      options.closed();
    });
    document.body.append(this.element);
    this.element.showModal();
    this.turnTo(this.id);
  }

  get node() {
    return this.#nodes.find(({ id }) => id === this.id) ?? null;
  }

  close() {
    this.element.close();
  }

  /** The files are these now. @param {Node[]} nodes */
  show(nodes) {
    const at = this.#nodes.findIndex(({ id }) => id === this.id);
    this.#nodes = nodes;
    if (this.node) return this.turnTo(this.id);
    const neighbour = nodes[Math.min(at, nodes.length - 1)];
    if (!neighbour) return this.close();
    return this.#options.turned(neighbour.id);
  }

  /** @param {string} id */
  turnTo(id) {
    this.id = id;
    const { node } = this;
    if (!node) return;
    const index = this.#nodes.indexOf(node);
    this.#previous.disabled = index === 0;
    this.#next.disabled = index === this.#nodes.length - 1;
    fill(this.#place, this.#nodes.length > 1 ? `${index + 1} of ${this.#nodes.length}` : "");
    fill(this.#name, h("bdi", null, node.name));
    const state = `${node.id} ${node.version}`;
    if (state === this.#shown) return;
    this.#shown = state;
    fill(this.#picture, nodeIcon(kindOf(node)));
    this.#loading.abort();
    this.#loading = new AbortController();
    this.#showContent(node, this.#loading.signal);
  }

  /** @param {Node} node @param {"inline" | "attachment"} disposition */
  #address(node, disposition) {
    return this.#options.address?.(node, disposition) ?? contentPath(this.#options.space, node, disposition);
  }

  /** @param {Node} node @param {AbortSignal} signal */
  #showContent(node, signal) {
    const kind = kindOf(node);
    const address = this.#address(node, "inline");
    const media = { src: address, controls: true, preload: "metadata", "aria-label": node.name };
    if (!node.size) this.#nothing(node, "The file is empty.");
    else if (kind === "image") this.#image(node, address);
    else if (kind === "video") fill(this.#stage, this.#watched(node, h("video", { ...media, playsinline: true })));
    else if (kind === "audio")
      fill(this.#stage, h("div", { class: "preview-audio" }, nodeIcon(kind), this.#watched(node, h("audio", media))));
    else if (kind === "pdf") fill(this.#stage, h("iframe", { class: "preview-pdf", src: address, title: node.name }));
    else if (OPAQUE.has(kind)) this.#nothing(node);
    else void this.#text(node, address, signal);
  }

  /** @param {Node} node @param {string} address */
  #image(node, address) {
    const image = h("img", { class: "preview-image", alt: node.name });
    const frame = h(
      "button",
      { type: "button", class: "preview-zoom", "aria-pressed": "false", "aria-label": `${node.name}: show in full size` },
      image,
    );
    frame.addEventListener("click", () => frame.setAttribute("aria-pressed", String(frame.classList.toggle("full"))));
    image.addEventListener("error", () => this.id === node.id && this.#nothing(node, "This image cannot be shown here."));
    image.src = address;
    fill(this.#stage, frame);
  }

  /** @template {HTMLMediaElement} T @param {Node} node @param {T} element */
  #watched(node, element) {
    element.addEventListener("error", () => this.id === node.id && this.#nothing(node, "This browser cannot play the file."));
    return element;
  }

  /** @param {Node} node @param {string} address @param {AbortSignal} signal */
  async #text(node, address, signal) {
    const slow = setTimeout(() => fill(this.#stage, loading()), 200);
    try {
      const response = await slowly(async () => {
        const answer = await fetch(address, { signal, headers: { range: `bytes=0-${TEXT_BYTES - 1}` } });
        if (!answer.ok) throw await problemOf(answer);
        return answer;
      }, signal);
      const content = new Uint8Array(await response.arrayBuffer());
      if (signal.aborted) return;
      if (content.subarray(0, 8192).includes(0)) return this.#nothing(node);
      const text = new TextDecoder().decode(content);
      const cut = (node.size ?? 0) > content.length;
      fill(
        this.#stage,
        h(
          "div",
          { class: "preview-paper", tabindex: 0, role: "region", "aria-label": `Text of ${node.name}` },
          h("pre", null, text),
          cut &&
            h("p", { class: "preview-cut" }, `The first ${bytes(content.length)} are shown. Download the file to see all of it.`),
        ),
      );
    } catch (error) {
      if (!signal.aborted) this.#nothing(node, words(error));
    } finally {
      clearTimeout(slow);
    }
    return undefined;
  }

  /** @param {Node} node @param {string} [why] */
  #nothing(node, why = "Files of this kind cannot be shown here.") {
    fill(
      this.#stage,
      h(
        "div",
        { class: "preview-nothing" },
        nodeIcon(kindOf(node)),
        h("p", null, why),
        h("p", { class: "hint" }, `${kindName(kindOf(node))}, ${bytes(node.size ?? 0)}`),
        h(
          "button",
          { type: "button", class: "button primary", on: { click: () => this.#download() } },
          icon("download"),
          "Download",
        ),
      ),
    );
  }

  #download() {
    if (this.node) save(this.#address(this.node, "attachment"));
  }

  /** @param {number} by */
  #turn(by) {
    const index = this.#nodes.findIndex(({ id }) => id === this.id);
    const to = this.#nodes[index + by];
    if (to) this.#options.turned(to.id);
  }

  /** @param {KeyboardEvent} event */
  #keyed(event) {
    if (event.target instanceof HTMLMediaElement || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target instanceof Element && event.target.closest("[role=menu]")) return;
    if (event.key === "ArrowLeft") this.#turn(-1);
    else if (event.key === "ArrowRight") this.#turn(1);
    else return;
    event.preventDefault();
  }
}
