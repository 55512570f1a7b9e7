// The same endpoints as the documented API was first written: Express, node-postgres, jsonwebtoken, one process.
//
// It reads the same tables, checks the same callers' tokens, gives the same answers, commits as durably, and does what our
// edge does: CORS, a line in the access log. All else is as Express has it; NODE_ENV is production, statements are prepared.
//
// node server.js HOST PORT
const cors = require("cors");
const express = require("express");
const jwt = require("jsonwebtoken");
const morgan = require("morgan");
const { Pool, types } = require("pg");

const [host, port] = process.argv.slice(2);
const { LIVE_SESSIONS_DATABASE_URL: url, LIVE_SESSIONS_JWT_SECRET: secret } = process.env;
const { LIVE_SESSIONS_DAILY_API_KEY: dailyKey, LIVE_SESSIONS_DAILY_API_URL: dailyUrl } = process.env;
const TOKEN_LIFETIME = 6 * 3600;

const { pathname, username, searchParams } = new URL(url.replace("@/", "@socket/"));
const pool = new Pool({ host: searchParams.get("host"), user: username, database: pathname.slice(1), max: 20 });
types.setTypeParser(types.builtins.TIMESTAMPTZ, (text) => new Date(text));

const COLUMNS = `id AS "_id", course_id AS "courseId", room_name AS "roomName", status, starts_at AS "startsAt",
  ends_at AS "endsAt", created_by AS "createdBy", recording_enabled AS "recordingEnabled",
  max_participants AS "maxParticipants", created_at AS "createdAt", updated_at AS "updatedAt"`;
const BY_NAME = {
  name: "by-name",
  text: `SELECT ${COLUMNS} FROM sessions WHERE room_name = $1 AND room_created_at IS NOT NULL`,
};
const BY_INSTRUCTOR = {
  name: "by-instructor",
  text: `SELECT ${COLUMNS} FROM sessions WHERE created_by = $1 AND room_created_at IS NOT NULL
    ORDER BY starts_at DESC, id DESC`,
};
const ADMIT = {
  name: "admit",
  text: `INSERT INTO participants (session_id, user_id, daily_user_id, role) VALUES ($1, $2, $2, $3)
    ON CONFLICT (session_id, user_id) DO UPDATE SET role = excluded.role, updated_at = now()
    RETURNING was_kicked, mic_allowed, camera_allowed`,
};

const app = express();
app.disable("x-powered-by");
app.use(morgan("combined"));
app.use(cors({ origin: "http://localhost:3000", exposedHeaders: ["Retry-After"] }));
app.use(express.json());

function authenticated(request, response, next) {
  const [scheme, token] = (request.headers.authorization || "").split(" ");
  if (scheme.toLowerCase() !== "bearer") return response.status(401).json({ error: "Unauthorized" });
  jwt.verify(token, secret, { algorithms: ["HS256"] }, (error, claims) => {
    if (error || !claims.exp) return response.status(401).json({ error: "Unauthorized" });
    const id = claims.id || claims.sub;
    request.user = { id, name: claims.name || id, role: claims.role === "instructor" ? "instructor" : "student" };
    next();
  });
}

const failing = (text) => (handler) => (request, response) =>
  handler(request, response).catch(() => response.status(500).json({ error: text }));

async function byName(name) {
  return (await pool.query({ ...BY_NAME, values: [name] })).rows[0];
}

app.get("/sessions/instructor/:instructorId", failing("Failed to fetch instructor sessions")(async (request, response) => {
  response.json((await pool.query({ ...BY_INSTRUCTOR, values: [request.params.instructorId] })).rows);
}));

app.get("/sessions/:sessionName", failing("Failed to get session")(async (request, response) => {
  const session = await byName(request.params.sessionName);
  if (!session) return response.status(500).json("Session not found");
  response.json(session);
}));

app.post("/sessions/:sessionName/token", authenticated, failing("Failed to get session token")(async (request, response) => {
  const { user } = request;
  const session = await byName(request.params.sessionName);
  if (!session) return response.status(404).json({ message: "Session not found" });
  if (session.status === "ended") return response.status(400).json({ message: "Session has ended" });
  const [row] = (await pool.query({ ...ADMIT, values: [session._id, user.id, user.role] })).rows;
  if (row.was_kicked) return response.status(403).json({ message: `Not authorized to join session:${session.roomName}` });
  const claims = { r: session.roomName, d: domainId, ud: user.id, u: user.name, o: user.role === "instructor" };
  if (!row.mic_allowed || !row.camera_allowed) {
    const sends = [...(row.camera_allowed ? ["v", "sv"] : []), ...(row.mic_allowed ? ["a", "sa"] : [])];
    claims.p = { cs: sends.join(",") || false };
  }
  response.json({ token: jwt.sign(claims, dailyKey, { algorithm: "HS256", expiresIn: TOKEN_LIFETIME }) });
}));

let domainId;
fetch(`${dailyUrl}/`, { headers: { authorization: `Bearer ${dailyKey}` } })
  .then((answer) => answer.json())
  .then((domain) => {
    domainId = domain.domain_id;
    const server = app.listen(Number(port), host);
    server.keepAliveTimeout = 75_000;
    process.on("SIGTERM", () => process.exit(0));
  });
