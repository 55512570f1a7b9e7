-- What the documented REST API has and gRPC's JSON has not: 201, top-level arrays, `"endsAt":null`, times with three
-- digits, the shapes of errors, strict types, HEAD. It runs before the transcoder on requests and after it on answers.
-- There, a pattern with an unescaped `":"` can only match a real key: the transcoder prints fields in a fixed order
-- without spaces, and inside a JSON string every quote is escaped.

local METADATA = "live_sessions"  -- what a request leaves for its answer, for local_reply_config and the access log
local BAD_REQUEST = {[":status"] = "400"}  -- local_reply_config makes it JSON
local HEALTH_CHECK = {
  [":method"] = "POST", [":path"] = "/grpc.health.v1.Health/Check", [":authority"] = "live-sessions",
  ["content-type"] = "application/grpc", te = "trailers",
}

-- By gRPC code: the HTTP status and the body; %s is the message, quoted.
local ERRORS = {
  [2] = {"500", '{"error":"Internal Server Error","message":"The request failed"}'},  -- and for all that are not here
  [3] = {"400", '{"error":%s}'},
  [4] = {"504", '{"error":"Gateway Timeout","message":%s}'},
  [5] = {"404", '{"message":%s}'},
  [7] = {"403", '{"message":%s}'},
  [8] = {"429", '{"error":"Too Many Requests","message":%s}'},
  [9] = {"400", '{"message":%s}'},
  [13] = {"500", '{"error":%s}'},
  [14] = {"500", '{"error":%s}'},
  [16] = {"401", '{"error":"Unauthorized","message":%s}'},
}
local SESSION_NOT_FOUND = {"500", "%s"}  -- GET /sessions/{session_name} answers a bare string, as documented

-- The transcoder refuses parameters of unknown names only, and would let `?session_name=` replace the name in the path.
local QUERY_PARAMETERS = {
  page_size = true, pageSize = true, page_token = true, pageToken = true, status = true, after_revision = true, afterRevision = true,
}
local STATUSES = {scheduled = true, live = true, ended = true}

-- What the servers read, or HTTP itself needs. Nothing else reaches them, whatever its name and bytes.
local HEADERS = {
  [":authority"] = true, [":method"] = true, [":path"] = true, [":scheme"] = true, ["content-length"] = true,
  ["content-type"] = true, ["transfer-encoding"] = true, authorization = true, ["idempotency-key"] = true,
  traceparent = true, tracestate = true, ["x-forwarded-proto"] = true, ["x-request-id"] = true,
  ["x-webhook-signature"] = true, ["x-webhook-timestamp"] = true,
}

local function quote(text)
  return '"' .. text:gsub('[%c"\\]', function(char) return ("\\u%04x"):format(char:byte()) end) .. '"'
end

-- A date-time with its offset, as ISO 8601 and JavaScript's Date know it, printed as protobuf reads it: in UTC, with
-- milliseconds. Nil for anything else.
local function timestamp(text)
  local sign, year, month, day, hour, minute, rest = text:match("^([+-]?)(%d+)%-(%d%d)%-(%d%d)[Tt](%d%d):(%d%d)(.+)$")
  if not sign or #year ~= (sign == "" and 4 or 6) or sign .. year == "-000000" then return end
  local second, fraction, zone = rest:match("^:(%d%d)%.(%d+)(.+)$")
  if not second then second, zone = rest:match("^:(%d%d)(.+)$") end
  second, fraction = second or "00", fraction or "0"
  local side, hours, minutes = (zone or rest):gsub("^[Zz]$", "+00:00"):match("^([+-])(%d%d):?(%d%d)$")
  if not side or hours > "23" or minutes > "59" or minute > "59" or second > "59" or hour > "24" then return end
  if hour == "24" and (minute .. second .. fraction):find("[1-9]") then return end
  local early = month < "03" and 1 or 0  -- in January and February; years are counted from March
  local years, months = tonumber(sign .. year) - early, month - 3 + 12 * early
  local days = years * 365 + math.floor(years / 4) - math.floor(years / 100) + math.floor(years / 400)
    + math.floor((153 * months + 2) / 5) + day - 719469
  if os.date("!%m%d", days * 86400) ~= month .. day then return end  -- there is no such day
  local seconds = days * 86400 + hour * 3600 + minute * 60 + second - (side .. 1) * (hours * 3600 + minutes * 60)
  seconds = math.max(-30610224000, math.min(seconds, 253402300799))  -- years 1000 to 9999: the server takes fewer
  return '"' .. os.date("!%Y-%m-%dT%H:%M:%S.", seconds) .. (fraction .. "00"):sub(1, 3) .. 'Z"'
end

local function whole_number(number)
  if number % 1 ~= 0 then return nil, "maxParticipants must be a whole number" end
  return ("%d"):format(math.max(-1, math.min(number, 2147483647)))  -- an int32: the server takes fewer
end

-- The values that a body has: their type, what is said of others, and how the transcoder reads them, which would take
-- "yes" for true and "12" for 12. In this order, and by the names that callers may write, `courseId` and `course_id`.
local function fields(...)
  local all = {...}
  for _, field in ipairs(all) do
    all[field[1]] = field
    all[field[1]:gsub("%u", function(letter) return "_" .. letter:lower() end)] = field
  end
  return all
end

local SESSION = fields(
  {"courseId", "string", "courseId must be a string", quote},
  {"startsAt", "string", "startsAt must be an ISO 8601 date string", timestamp},
  {"recordingEnabled", "boolean", "recordingEnabled must be a boolean", tostring},
  {"maxParticipants", "number", "maxParticipants must be a number", whole_number}
)
local PARTICIPANT = fields(
  {"micAllowed", "boolean", "micAllowed must be a boolean", tostring},
  {"cameraAllowed", "boolean", "cameraAllowed must be a boolean", tostring}
)
local FIELDS = {sessions = SESSION, session = SESSION, participant = PARTICIPANT}  -- by the route

-- Adds to the values what json_to_metadata passes over: arrays and objects, which are never right, and endless texts, in
-- whose place any that is too long will do. Then the first name that is not of the fields, if there is one.
local function unknown_name(known, values, json)
  local plain = json:gsub("\\.", "__")  -- each quote in it begins or ends a text
  local unknown, depth, at = nil, 0, plain:find('["%[%]{}]')
  while at do
    local mark, stop = plain:sub(at, at), at
    if mark == '"' then
      stop = plain:find('"', at + 1, true) or #plain
      local value = depth == 1 and plain:match("^%s*:%s*(.)", stop + 1)
      local name = value and json:sub(at + 1, stop - 1)
      local field = known[name]
      if name and not field then unknown = unknown or name end
      if field and value ~= "n" and values[field[1]] == nil then
        values[field[1]] = value == '"' and ("x"):rep(1000) or {}
      end
    else
      depth = depth + (mark:find("[%[{]") and 1 or -1)
    end
    at = plain:find('["%[%]{}]', stop + 1)
  end
  return unknown
end

-- A request of these values, or nil and what is wrong with them.
local function request_of(known, values)
  local parts = {}
  for _, field in ipairs(known) do
    local name, kind, message, print = unpack(field)
    local value = values[name]
    if value ~= nil then
      if type(value) ~= kind then return nil, message end
      local printed, why = print(value)
      if not printed then return nil, why or message end
      parts[#parts + 1] = ('"%s":%s'):format(name, printed)
    end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- What gRPC cannot carry in a value becomes a space, which no token and no key may have.
local function keep_known(headers)
  local removed, replaced = {}, {}
  for name, value in pairs(headers) do
    if not HEADERS[name] then
      removed[#removed + 1] = name
    elseif value:find("[^ -~]") and name ~= ":path" then
      replaced[name] = value:gsub("[^ -~]", " ")
    end
  end
  for _, name in ipairs(removed) do headers:remove(name) end
  for name, value in pairs(replaced) do headers:replace(name, value) end
end

-- A create request may have names that nobody knows; a change must not, for it would change nothing.
local function pass_known(handle, route)
  local body = handle:body()
  if not body then return end
  local metadata = handle:streamInfo():dynamicMetadata()
  local values = metadata:get("envoy.filters.http.json_to_metadata") or {}
  if values.malformed then return handle:respond(BAD_REQUEST, "The body is not JSON.") end
  local unknown = unknown_name(FIELDS[route], values, body:getBytes(0, body:length()))
  local request, wrong = request_of(FIELDS[route], values)
  if unknown and route ~= "sessions" then
    wrong = #unknown > 100 and "There is no such field" or "There is no field " .. unknown
  end
  if not wrong then return body:setBytes(request) end
  metadata:set(METADATA, "error", wrong)
  handle:respond(BAD_REQUEST, "")
end

-- Leaves the address of the list's next page, all but its token. Returns what is wrong with the query, if anything is.
local function read_query(metadata, path, query)
  for name in query:gmatch("[?&]([^=&]+)") do
    if not QUERY_PARAMETERS[name] then return "There is no query parameter " .. name .. "." end
  end
  local list = path .. "?"
  for status in query:gmatch("[?&]status=([^&]*)") do
    if not STATUSES[status] then
      metadata:set(METADATA, "error", "status must be scheduled, live or ended")
      return ""
    end
    list = path .. "?status=" .. status .. "&"
  end
  local size = query:match(".*[?&]page_?[sS]ize=([%w%%]+)") or ""
  metadata:set(METADATA, "next_page", list .. "page_size=" .. size .. "&page_token=")
end

-- EventSource comes back with the id of the last event that it saw. HEAD cannot wait for the end of a stream: it asks for
-- the session instead.
local function ask_for_events(headers, metadata, path, last_event_id)
  if headers:get(":method") == "HEAD" then
    headers:replace(":path", (path:gsub("/events/?$", "")))
    metadata:set(METADATA, "events", true)
  elseif (last_event_id or ""):find("^%d+$") and tonumber(last_event_id) <= 2147483647 then  -- an int32
    headers:replace(":path", path .. "?after_revision=" .. last_event_id)
  end
end

-- Whether a server can be reached, ready or not: while all are without PostgreSQL, it is they who tell callers so, and
-- whoever balances several Envoys should not think that there is nobody.
local function answer_health(handle)
  for _ = 1, 5 do  -- one that has just died looks idle, and is drawn first
    local headers = handle:httpCall("live_sessions", HEALTH_CHECK, "\0\0\0\0\0", 2000)  -- an empty message
    local failed = headers[":status"] ~= "200" or headers["grpc-status"]  -- which an answer brings in its trailers
    if not failed then return handle:respond({[":status"] = "200"}, "") end
  end
  handle:respond({[":status"] = "503"}, "")
end

function envoy_on_request(handle)
  local route = handle:streamInfo():routeName()  -- of the path that the caller sent
  if route == "" then return end
  local headers = handle:headers()
  local last_event_id = headers:get("last-event-id")
  keep_known(headers)
  local path, query = (headers:get(":path") or ""):match("^([^?]*)(.*)$")  -- CONNECT has none
  if path == "/health" then return answer_health(handle) end
  local metadata = handle:streamInfo():dynamicMetadata()
  if route == "events" then ask_for_events(headers, metadata, path, last_event_id) end
  if headers:get(":method") == "HEAD" then
    headers:replace(":method", "GET")
    metadata:set(METADATA, "head", true)
  end
  local name = path:match("^/sessions/([%w_-]+)/attendance%.csv/?$")
  if name then metadata:set(METADATA, "file", "attendance-" .. name .. ".csv") end
  local wrong = query ~= "" and read_query(metadata, path, query)
  if wrong then return handle:respond(BAD_REQUEST, wrong) end
  if FIELDS[route] then return pass_known(handle, route) end
  local body = route ~= "webhook" and handle:body()
  if body then body:setBytes("") end  -- nobody reads it
end

local QUOTE, ZULU, STARTS = ('"Zt'):byte(1, 3)  -- of all names that end in At, only that of startsAt has its t there
local TAIL = 4096  -- more than a page's token has characters

-- Times with three digits, and null where a session has not ended; of `json` the part from `from` to `to`. It looks for
-- plain text and single bytes, which make no strings: with patterns, a list of a thousand sessions would cost 4 ms.
local function complete(json, from, to)
  local find, byte, sub, parts, n = string.find, string.byte, string.sub, {}, 0
  local key, time = find(json, 'At":"', from, true)
  while key do
    local point = time + #"YYYY-MM-DDThh:mm:ss" + 1  -- or the "Z", if there is no fraction
    local quote = point + #".123Z"
    if byte(json, point) == ZULU then
      parts[n + 1], parts[n + 2], n = sub(json, from, point - 1), ".000", n + 2
      from, quote = point, point + 1
    elseif byte(json, quote) ~= QUOTE then
      quote = find(json, '"', point, true)
      parts[n + 1], parts[n + 2], n = sub(json, from, point), sub(json, point + 1, point + 3), n + 2
      from = quote - 1
    end
    if byte(json, key - 2) == STARTS and find(json, '^,"createdBy"', quote + 1) then
      parts[n + 1], parts[n + 2], n = sub(json, from, quote), ',"endsAt":null', n + 2
      from = quote + 1
    end
    key, time = find(json, 'At":"', quote, true)
  end
  parts[n + 1] = sub(json, from, to)
  return table.concat(parts)
end

local function answer_error(handle, headers, json, request)
  local code, message = json:match('^{"code":(%d+),"message":(".-"),"details":%[')
  code, message = tonumber(code or 2), message or '""'
  local bare = handle:streamInfo():routeName() == "GetLiveSession" and not (request and request.events)
  local error = code == 5 and bare and SESSION_NOT_FOUND or ERRORS[code]
  local status, shape = unpack(error or ERRORS[2])
  headers:replace(":status", status)
  headers:replace("content-type", "application/json")
  if code == 16 then headers:add("www-authenticate", "Bearer") end
  local delay = (code == 8 or code == 14) and json:match('"retryDelay":"([%d.]+)s"')
  if delay then headers:add("retry-after", tostring(math.ceil(tonumber(delay)))) end
  handle:streamInfo():dynamicMetadata():set(METADATA, "grpc_status", code)
  return shape:format(message)
end

-- What Envoy says itself has its shape already, but where it took the caller for a gRPC client: then that is a message,
-- in a header or in the transcoder's words.
local function answer_own(headers, json, status)
  local message = headers:get("grpc-message")
  local told = json:match('^{"code":%d+,"message":"(.*)","details":%[%]}$')
  if told then json = told:gsub("\\(.)", "%1") end
  headers:remove("x-status")
  headers:replace(":status", status)
  if not message then return json end
  headers:replace("content-type", "application/json")
  return (message:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- A table as it is, unless an instructor or a course is called attendance.csv. Of a list the array alone; the token of its
-- next page has URL-safe characters.
local function answer(handle, headers, json, request)
  if request and request.file and headers:get("content-type") ~= "application/json" then
    headers:add("content-disposition", ('attachment; filename="%s"'):format(request.file))
    return json
  end
  if handle:streamInfo():routeName() == "CreateLiveSession" then headers:replace(":status", "201") end
  local first = json:match('^{"%a+":()%[')
  if not first then return complete(json, 1, #json) end
  local last, token = json:match('()%],"nextPageToken":"([%w_-]*)"}$', -TAIL)
  if request and token and token ~= "" then
    headers:add("link", ('<%s%s>; rel="next"'):format(request.next_page, token))
  end
  return complete(json, first, last or #json - 1)
end

local function event(revision, at)
  local second, fraction = at:match("^([^.]+)%.?(%d*)Z$")
  local id = revision ~= "0" and "id: " .. revision .. "\n" or ""
  return ('%sdata: {"revision":%s,"at":"%s.%sZ"'):format(id, revision, second, (fraction .. "000"):sub(1, 3))
end

-- As they come: each chunk holds whole events. Where there is none and will be none, 204 tells EventSource to stop.
local function pass_events(handle, headers)
  headers:replace("cache-control", "no-store")
  if headers:get("grpc-status") == "0" then
    headers:remove("content-type")
    headers:remove("content-length")
    return headers:replace(":status", "204")
  end
  for chunk in handle:bodyChunks() do
    if chunk:length() > 0 then
      local json = chunk:getBytes(0, chunk:length())
      local events = complete(json, 1, #json)
      chunk:setBytes((events:gsub('data: {"revision":(%d+),"at":"([^"]+)"', event)))
    end
  end
end

function envoy_on_response(handle)
  local request = handle:streamInfo():dynamicMetadata():get(METADATA)
  local headers = handle:headers()
  if headers:get("content-type") == "text/event-stream" then return pass_events(handle, headers) end
  local body = handle:body(true)
  local json = body:getBytes(0, body:length())
  headers = handle:headers()  -- those from before body() are dead
  local own = headers:get("x-status")
  local rewritten = own and answer_own(headers, json, own)
    or headers:get(":status") == "200" and answer(handle, headers, json, request)
    or answer_error(handle, headers, json, request)
  if request and request.head then
    body:setBytes("")
    headers:replace("content-length", tostring(#rewritten))
    if request.events and headers:get(":status") == "200" then
      headers:replace("content-type", "text/event-stream")
      headers:remove("content-length")
    end
  elseif rewritten ~= json then
    body:setBytes(rewritten)
  end
end
