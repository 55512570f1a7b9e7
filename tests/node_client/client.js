// A microservice in another language: it knows the protos and an address, and nothing of our Python.
//
//     node client.js <address> <protos> <folder of google/api> <bearer token>
//
// Prints one line of JSON: the session it created, the same one read back, and the error for a session that is not.
"use strict";

const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [address, protos, googleProtos, token] = process.argv.slice(2);
const definition = protoLoader.loadSync("live_sessions/v1/service.proto", {
  includeDirs: [protos, googleProtos],
  enums: String,
});
const { LiveSessions } = grpc.loadPackageDefinition(definition).live_sessions.v1;
const client = new LiveSessions(address, grpc.credentials.createInsecure());

function call(method, request) {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  const deadline = Date.now() + 15_000;
  return new Promise((resolve, reject) =>
    client[method](request, metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer))),
  );
}

async function main() {
  const startsAt = { seconds: Date.UTC(2025, 11, 26, 15) / 1000 };
  const created = await call("createLiveSession", { courseId: "course-uuid-123", startsAt, maxParticipants: 50 });
  const got = await call("getLiveSession", { sessionName: created.roomName });
  const error = await call("getLiveSession", { sessionName: "nope" }).catch((failure) => ({
    code: grpc.status[failure.code],
    message: failure.details,
    status: failure.metadata.get("grpc-status-details-bin")[0].toString("base64"),
  }));
  console.log(JSON.stringify({ created, got, error }));
  client.close();
}

main();
