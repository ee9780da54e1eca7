// Sends to the server what this page has to say: answers, console messages and errors. A classic
// script before all modules, so that one that does not load is reported too.

let reported = Promise.resolve();

/** Posts {kind: value}; reports arrive in the order in which they were made. */
function report(kind, value) {
  const body = JSON.stringify({[kind]: value});
  reported = reported.then(() => fetch('/report', {method: 'POST', body}));
  return reported;
}

for (const level of ['debug', 'log', 'info', 'warn', 'error']) {
  const write = console[level].bind(console);
  console[level] = (...values) => {
    write(...values);
    report('console', `${level}: ${values.map(String).join(' ')}`);
  };
}

addEventListener('error', (event) => {
  const source = event.target?.src ?? `${event.filename}:${event.lineno}`;
  report('error', `${event.message ?? 'not loaded'} (${source})`);
}, true);

addEventListener('unhandledrejection', ({reason}) => {
  report('error', String(reason?.stack ?? reason));
});
