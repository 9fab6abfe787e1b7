// BullMQ: `node bullmq.js worker SOCKET NAME` runs nodes; `node bullmq.js producer SOCKET` runs what it is told on stdin.
// A line there is a list of flows: trees of {name, data, children}; its answer is a line with the list of their results.
// With {plain: [...]} the nodes have nothing to do with each other, and are added together.
"use strict";
const readline = require("node:readline");
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");
const { Redis } = require("ioredis");

const QUEUE = "bench";
const AT_ONCE = 8; // jobs of one worker that wait for the server at the same time

const BODIES = {
  inc: (values, data) => (values.length ? values[0] : data.x) + 1,
  one: (values, data) => data.number,
  total: (values) => values.reduce((sum, value) => sum + value, 0),
};

async function work(connection, name) {
  const run = async (job) => {
    const values = job.data.joins ? Object.values(await job.getChildrenValues()) : [];
    return BODIES[job.name](values, job.data);
  };
  const worker = new Worker(QUEUE, run, { connection, concurrency: AT_ONCE });
  await worker.waitUntilReady();
  const client = new Redis(connection);
  await client.sadd("bench:ready", name);
  client.disconnect();
}

async function produce(connection) {
  const flows = new FlowProducer({ connection });
  const queue = new Queue(QUEUE, { connection });
  const events = new QueueEvents(QUEUE, { connection });
  const ended = new Map(); // job id to its value, or to who waits for it
  events.on("completed", ({ jobId, returnvalue }) => {
    const waits = ended.get(jobId);
    if (typeof waits === "function") waits(returnvalue);
    else ended.set(jobId, { value: returnvalue });
  });
  const result = (job) =>
    new Promise((resolve) => {
      const there = ended.get(job.id);
      if (there) resolve(there.value);
      else ended.set(job.id, resolve);
    });
  const opts = { removeOnComplete: true };
  const full = (tree) => ({ ...tree, queueName: QUEUE, opts, children: tree.children && tree.children.map(full) });
  await events.waitUntilReady();
  process.stdout.write("ready\n");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const told = JSON.parse(line);
    const jobs = told.plain
      ? await queue.addBulk(told.plain.map((node) => ({ ...node, opts })))
      : (await flows.addBulk(told.map(full))).map((made) => made.job);
    const values = await Promise.all(jobs.map(result));
    ended.clear();
    process.stdout.write(JSON.stringify(values) + "\n");
  }
}

const [role, path, name] = process.argv.slice(2);
const connection = { path, maxRetriesPerRequest: null };
(role === "worker" ? work(connection, name) : produce(connection)).catch((error) => {
  console.error(error);
  process.exit(1);
});
