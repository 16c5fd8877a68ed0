// What a person with JavaScript shares with those of base.py: commands as JSON lines in, answers and events out.

import readline from "node:readline";

// Standard output is for answers and events, whatever a library prints.
for (const name of ["debug", "error", "info", "log", "trace", "warn"]) {
  console[name] = (...words) => process.stderr.write(`${words.join(" ")}\n`);
}

export function emit(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function refusal(error) {
  const words = { error: String(error?.message ?? error) };
  if (error?.errcode) words.errcode = error.errcode;
  if (error?.httpStatus) words.status = error.httpStatus;
  return words;
}

/** Carries out commands by the methods of `person`. Those for one room run in the order they were given. */
export function serve(person) {
  const rooms = new Map();
  const carryOut = async (id, action, command) => {
    try {
      emit({ id, ok: (await action.call(person, command)) ?? {} });
    } catch (error) {
      console.error(error?.stack ?? error);
      emit({ id, ...refusal(error) });
    }
  };
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const { id, do: name, ...command } = JSON.parse(line);
    const action = person.commands[name];
    if (!action) {
      emit({ id, error: `no command ${name} here` });
      return;
    }
    const before = rooms.get(command.room) ?? Promise.resolve();
    const done = before.then(() => carryOut(id, action, command));
    if (command.room) rooms.set(command.room, done);
  });
  // Whoever holds our standard input is gone: nothing is worth finishing.
  lines.on("close", () => process.exit(0));
  process.on("unhandledRejection", (error) => console.error(error?.stack ?? error));
}
