// Three connections to an echo behind the gateway: PORT CA VERSION [CERTIFICATE KEY].
// Each resumes the session of the one before and prints a line. `node.rs` reads the lines.
'use strict';
const fs = require('fs');
const tls = require('tls');

const [port, ca, version, certificate, key] = process.argv.slice(2);
const message = Buffer.alloc(1 << 20, 'portcullis'); // more than any buffer on the way
const options = {
  host: '127.0.0.1',
  port: Number(port),
  servername: 'localhost',
  ca: fs.readFileSync(ca),
  minVersion: version,
  maxVersion: version,
};
if (certificate) {
  options.cert = fs.readFileSync(certificate);
  options.key = fs.readFileSync(key);
}

function talk(session) {
  return new Promise((resolve, reject) => {
    const stream = tls.connect({ ...options, session });
    const parts = [];
    let latest = session;
    let length = 0;
    let reused = false;
    let ended = false;
    stream.setTimeout(20_000, () => stream.destroy(new Error('timed out')));
    stream.on('session', (fresh) => { latest = fresh; });
    stream.on('secureConnect', () => {
      reused = stream.isSessionReused();
      stream.write(message);
    });
    stream.on('data', (part) => {
      parts.push(part);
      length += part.length;
      if (length === message.length) stream.end(); // close_notify; theirs has to come back
    });
    stream.on('end', () => { ended = true; });
    stream.on('error', reject);
    stream.on('close', () => {
      const echoed = Buffer.concat(parts).equals(message);
      console.log(`reused=${reused} echoed=${echoed} ended=${ended}`);
      resolve(latest);
    });
  });
}

(async () => {
  let session;
  for (let turn = 0; turn < 3; turn += 1) session = await talk(session);
})().catch((error) => {
  console.log(error.code, error.message);
  process.exitCode = 1;
});
