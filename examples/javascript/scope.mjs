/** The names that nodes can use, and who defines them. */

import { show } from "./json.mjs";

export class Scope {
  #names = new Set();
  #outer;
  #document;

  /**
   * @param {Scope | null} outer names that are visible, too, and cannot be defined again
   * @param {Set<string>} document names of parameters and constants, as far as a function sees and can hide them
   */
  constructor(outer, document = new Set()) {
    this.#outer = outer;
    this.#document = document;
    /** Names of the document that the function uses, and all that it defines. */
    this.borrowed = outer?.borrowed ?? [];
    this.defined = outer?.defined ?? new Set();
  }

  define(name, item) {
    if (this.#sees(name)) item.fail(`the name ${show(name)} is defined twice`);
    this.#names.add(name);
    this.defined.add(name);
  }

  use(name, item) {
    if (this.#sees(name)) return;
    if (!this.#lends(name)) item.fail(`${show(name)} is no input, parameter, constant or output of an earlier node`);
    this.borrowed.push([name, item]);
  }

  /** Whether the name is an input of the graph itself or an output of one of its nodes. */
  owns(name) {
    return this.#names.has(name);
  }

  #sees(name) {
    return this.#names.has(name) || (this.#outer !== null && this.#outer.#sees(name));
  }

  #lends(name) {
    return this.#document.has(name) || (this.#outer !== null && this.#outer.#lends(name));
  }
}
