-- What the documented REST API has and gRPC's JSON has not: 201, top-level arrays, `"endsAt":null`, times with three
-- digits, the shapes of errors, strict types. It runs before the transcoder on requests and after it on answers.
--
-- There is no JSON library here, and none is needed. The transcoder prints fields in a fixed order without spaces, and
-- inside a JSON string every quote is escaped: a pattern with an unescaped `":"` can only match a real key.

local METADATA = "live_sessions"  -- what a request leaves for its answer and for the access log

-- By gRPC code: the HTTP status and the body; %s is the message, quoted.
local ERRORS = {
  [1] = {"499", '{"error":"Client Closed Request","message":%s}'},
  [2] = {"500", '{"error":"Internal Server Error","message":"The request failed"}'},  -- grpc.aio's text names exceptions
  [3] = {"400", '{"error":%s}'},
  [4] = {"504", '{"error":"Gateway Timeout","message":%s}'},
  [5] = {"404", '{"message":%s}'},
  [6] = {"409", '{"error":"Conflict","message":%s}'},
  [7] = {"403", '{"message":%s}'},
  [8] = {"429", '{"error":"Too Many Requests","message":%s}'},
  [9] = {"400", '{"message":%s}'},
  [10] = {"409", '{"error":"Conflict","message":%s}'},
  [11] = {"400", '{"error":"Bad Request","message":%s}'},
  [12] = {"501", '{"error":"Not Implemented","message":%s}'},
  [13] = {"500", '{"error":%s}'},
  [14] = {"500", '{"error":%s}'},
  [15] = {"500", '{"error":"Internal Server Error","message":%s}'},
  [16] = {"401", '{"error":"Unauthorized","message":%s}'},
}
local SESSION_NOT_FOUND = {"500", "%s"}  -- GET /sessions/{session_name} answers a bare string, as documented

local QUERY_PARAMETERS = {page_size = true, pageSize = true, page_token = true, pageToken = true}

-- How the values of POST /sessions must begin; the transcoder would take "yes" for true and "12" for 12.
-- With `%f[%D]` a number ends in one place only: trying each split of 60,000 zeros would take most of a minute.
local FIELDS = {
  {"courseId", '^"', "courseId must be a string"},
  {"startsAt", '^"%d%d%d%d%-%d%d%-%d%dT[%d:.]+[Z+-][%d:]*"', "startsAt must be an ISO 8601 date string"},
  {"recordingEnabled", "^[tf]", "recordingEnabled must be a boolean"},
  {"maxParticipants", "^[%d-]", "maxParticipants must be a number"},
  {"maxParticipants", "^%-?%d+%f[%D]%.?0*%s*[,}]", "maxParticipants must be a whole number"},
}

-- What the transcoder takes for JSON and is none: single quotes, names without quotes, a comma too many, `5.`. Strings
-- are one quote each here.
local NOT_JSON = {"'", "[%w_$]%s*:", ",%s*[%]},]", "[%[{]%s*,", "%d%.%D"}

local function snake_case(name)
  return (name:gsub("%u", function(letter) return "_" .. letter:lower() end))
end

-- Whether a value of this name, at any depth, is neither null nor begins as it must.
local function has_bad_value(text, name, pattern)
  for start in text:gmatch('"' .. name .. '"%s*:%s*()') do
    if not text:find("^null", start) and not text:find(pattern, start) then return true end
  end
  return false
end

-- For a backslash, what it escapes, and up to four hex digits behind that: a letter of a name, or nothing.
local function unescape(escaped, digits)
  if escaped ~= "u" then return digits end
  local code = tonumber(digits, 16) or 0
  return code < 128 and string.char(code):match("[%w_]") or ""
end

local function is_json(text)
  local bare = text:gsub('"[^"]*"', '"')
  for _, pattern in ipairs(NOT_JSON) do
    if bare:find(pattern) then return false end
  end
  return true
end

-- What is wrong with the types in a create request; nil if nothing.
local function type_error(text)
  for _, field in ipairs(FIELDS) do
    local name, pattern, message = unpack(field)
    if has_bad_value(text, name, pattern) or has_bad_value(text, snake_case(name), pattern) then return message end
  end
end

-- protobuf takes nothing else for text; the server would fail before any code of ours has seen the request.
local function is_utf8(text)
  local rest = text
    :gsub("[\194-\223][\128-\191]", " ")
    :gsub("\224[\160-\191][\128-\191]", " ")
    :gsub("\237[\128-\159][\128-\191]", " ")
    :gsub("[\225-\236\238\239][\128-\191][\128-\191]", " ")
    :gsub("\240[\144-\191][\128-\191][\128-\191]", " ")
    :gsub("\244[\128-\143][\128-\191][\128-\191]", " ")
    :gsub("[\241-\243][\128-\191][\128-\191][\128-\191]", " ")
  return not rest:find("[\128-\255]")
end

local function percent_decode(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- A query parameter that the API does not have. The transcoder refuses unknown fields only, and would let
-- `?session_name=` replace the name in the path.
local function unknown_parameter(query)
  for name in query:gmatch("[?&]([^=&]+)") do
    if not QUERY_PARAMETERS[name] then return name end
  end
end

local function refuse(handle, message)
  handle:respond({[":status"] = "400"}, message)  -- local_reply_config makes it JSON
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local target = headers:get(":path") or ""  -- CONNECT has none
  local path, query = target:match("^([^?]*)(.*)$")
  if (headers:get("content-type") or ""):find("^application/grpc") then
    headers:replace("content-type", "application/json")  -- gRPC has a listener of its own; here it would pass untranscoded
  end
  if target:find("[%%\128-\255]") and not is_utf8(percent_decode(target)) then
    return refuse(handle, "The path is not UTF-8.")
  end
  if query ~= "" then
    local unknown = unknown_parameter(query)
    if unknown then return refuse(handle, "There is no query parameter " .. unknown .. ".") end
    local metadata = handle:streamInfo():dynamicMetadata()
    metadata:set(METADATA, "path", path)
    metadata:set(METADATA, "page_size", query:match("[?&]page_?[sS]ize=([%w%%]+)") or "")
  end
  if path:find("^/sessions/?$") and headers:get(":method") == "POST" then
    local body = handle:body()
    local json = body and body:getBytes(0, body:length()) or ""
    local text = json:gsub("\\(.)(%x?%x?%x?%x?)", unescape)  -- now every quote begins or ends a string
    if not is_json(text) then return refuse(handle, "The body is not JSON.") end
    local message = type_error(text)
    if message then
      handle:streamInfo():dynamicMetadata():set(METADATA, "type_error", true)  -- local_reply_config: `error` is the text
      refuse(handle, message)
    end
  end
end

-- Times with three digits, and null where a session has not ended. It looks for plain text only, which is compiled: patterns
-- would cost a list of a thousand sessions 4 ms.
local function complete(json)
  local parts, from = {}, 1
  local key, time = json:find('At":"', 1, true)
  while key do
    local rest = time + #"YYYY-MM-DDThh:mm:ss" + 1  -- "Z", or a fraction and "Z"
    local quote = json:find('"', rest, true)
    if quote ~= rest + #".123Z" then
      local fraction = (json:sub(rest + 1, quote - 2) .. "000"):sub(1, 3)
      parts[#parts + 1] = json:sub(from, rest - 1) .. "." .. fraction
      from = quote - 1
    end
    if json:sub(quote, quote + 12) == '","createdBy"' and json:sub(key - 7, key) == '"startsA' then
      parts[#parts + 1] = json:sub(from, quote) .. ',"endsAt":null'
      from = quote + 1
    end
    key, time = json:find('At":"', quote, true)
  end
  parts[#parts + 1] = json:sub(from)
  return table.concat(parts)
end

-- The array alone, and the token of the next page, of an answer that is a list; else nil.
local function unwrap(json)
  local list, token = json:match('^{"%a+":(%[.*%]),"nextPageToken":"(.*)"}$')
  return list or json:match('^{"%a+":(%[.*%])}$'), token
end

-- The request's own path and page size with this token, which the server made of URL-safe characters.
local function next_link(request, token)
  token = token:gsub("[^%w._~-]", function(byte) return ("%%%02X"):format(byte:byte()) end)
  return ('<%s?page_size=%s&page_token=%s>; rel="next"'):format(request.path, request.page_size, token)
end

local function answer(handle)
  local body = handle:body(true)
  local json = body:getBytes(0, body:length())
  local list, token = unwrap(json)
  if token and token ~= "" then
    local request = handle:streamInfo():dynamicMetadata():get(METADATA)
    if request then handle:headers():add("link", next_link(request, token)) end
  end
  local rewritten = complete(list or json)
  if rewritten ~= json then body:setBytes(rewritten) end
end

local function quote(text)
  return '"' .. text:gsub('[%c"\\]', function(char) return ("\\u%04x"):format(char:byte()) end) .. '"'
end

-- The code and the quoted message of an error. The transcoder prints no body when it does not know the type of a
-- detail; the headers have both then. Nil for what Envoy says itself, which has its shape already.
local function parse_error(json, headers)
  local code, message = json:match('^{"code":(%d+),"message":(".-"),"details":%[')
  if code then return tonumber(code), message end
  code = tonumber(headers:get("grpc-status") or "")
  return code, quote(percent_decode(headers:get("grpc-message") or ""))
end

local function answer_error(handle)
  local route = handle:streamInfo():routeName()
  local body = handle:body(true)
  local json = body:getBytes(0, body:length())
  local headers = handle:headers()  -- those from before body() are dead
  local code, message = parse_error(json, headers)
  if not code then return end
  local error = code == 5 and route == "GetLiveSession" and SESSION_NOT_FOUND or ERRORS[code] or ERRORS[2]
  local status, shape = unpack(error)
  headers:replace(":status", status)
  headers:replace("content-type", "application/json")
  if code == 16 then headers:add("www-authenticate", "Bearer") end
  local delay = (code == 8 or code == 14) and json:match('"retryDelay":"([%d.]+)s"')
  if delay then headers:add("retry-after", tostring(math.ceil(tonumber(delay)))) end
  handle:streamInfo():dynamicMetadata():set(METADATA, "grpc_status", code)
  body:setBytes(shape:format(message))
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") ~= "200" then return answer_error(handle) end
  if handle:streamInfo():routeName() == "CreateLiveSession" then headers:replace(":status", "201") end
  answer(handle)
end
