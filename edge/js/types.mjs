// What tsc makes of a JavaScript file keeps the members that are marked as internal, whatever its settings say: they are taken out here.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import ts from "typescript";

const folder = new URL("types/", import.meta.url);

/**
 * The text of a file without what `isGone` names; a constructor that nobody else may call is left as a private one.
 * @param {string} text
 * @param {(node: ts.Node) => boolean} isGone
 */
function without(text, isGone) {
  /** @type {[number, number, string][]} */
  const gone = [];
  /** @param {ts.Node} node */
  const visit = (node) => {
    if (!isGone(node)) ts.forEachChild(node, visit);
    else gone.push([node.getFullStart(), node.getEnd(), ts.isConstructorDeclaration(node) ? "\n    private constructor();" : ""]);
  };
  visit(ts.createSourceFile("x.d.ts", text, ts.ScriptTarget.Latest, true));
  for (const [start, end, rest] of gone.reverse()) text = text.slice(0, start) + rest + text.slice(end);
  return text;
}

/** @param {ts.Node} node */
function isInternal(node) {
  return ts.getJSDocTags(node).some((tag) => tag.tagName.text === "internal");
}

for (const name of readdirSync(folder)) {
  const path = new URL(name, folder);
  const text = without(readFileSync(path, "utf8"), isInternal);
  /** @param {ts.Node} node */
  const isUnused = (node) => {
    const bindings = ts.isImportDeclaration(node) ? node.importClause?.namedBindings : undefined;
    if (bindings === undefined || !ts.isNamedImports(bindings)) return false;
    return bindings.elements.every((element) => text.split(new RegExp(`\\b${element.name.text}\\b`)).length === 2);
  };
  writeFileSync(path, without(text, isUnused));
}
