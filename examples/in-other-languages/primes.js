// Counts the primes below a limit in slices, queued by its first task; `examples/queue-from-node.yaml` runs it.
"use strict";

const fs = require("node:fs");

const SLICE = 20000;
const [step, ...numbers] = process.argv.slice(2);

// One line per task. One append call keeps lines of concurrent writers from interleaving.
function queueTasks(tasks) {
  fs.appendFileSync(process.env.AIR_QUEUE, tasks.map((task) => JSON.stringify(task) + "\n").join(""));
}

function setResult(value) {
  fs.writeFileSync(process.env.AIR_RESULT, JSON.stringify(value));
}

function inputs() {
  return JSON.parse(fs.readFileSync(process.env.AIR_INPUTS, "utf8") || "{}");
}

function isPrime(number) {
  for (let divisor = 2; divisor * divisor <= number; divisor += 1) {
    if (number % divisor === 0) return false;
  }
  return number > 1;
}

if (step === "split") {
  const limit = Number(numbers[0]);
  const tasks = [];
  for (let start = 0; start < limit; start += SLICE) {
    const end = Math.min(start + SLICE, limit);
    tasks.push({ id: `from-${start}`, command: ["node", __filename, "count", String(start), String(end)] });
  }
  queueTasks(tasks);
} else if (step === "count") {
  const [start, end] = numbers.map(Number);
  let primes = 0;
  for (let number = start; number < end; number += 1) primes += isPrime(number) ? 1 : 0;
  setResult({ primes });
} else if (step === "sum") {
  const total = Object.values(inputs()).reduce((sum, result) => sum + (result?.primes ?? 0), 0);
  console.log(`${total} primes`);
  setResult(total);
} else {
  console.error(`unknown step: ${step}`);
  process.exitCode = 2;
}
