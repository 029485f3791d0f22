-- wrk script: sends prepared POST requests in turn and checks every reply.
-- wrk ... -s call.lua URL -- LOAD.lua   where LOAD.lua returns
--   { headers = {name = value}, body = text, paths = {path, ...}, expect = text, smallest = bytes }
--   and, where each path gets a body of its own, bodies = {text, ...}
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  local load = dofile(arguments[1])
  requests, at = {}, 0
  for number, path in ipairs(load.paths) do
    requests[number] = wrk.format("POST", path, load.headers, load.bodies and load.bodies[number] or load.body)
  end
  count, expect, smallest = #requests, load.expect, load.smallest
  wrong, example = 0, ""
end

function request()
  at = at % count + 1
  return requests[at]
end

function response(status, headers, body)
  if status ~= 200 or #body < smallest or not body:find(expect, 1, true) then
    wrong = wrong + 1
    if example == "" then example = status .. " " .. body:sub(1, 200):gsub("[^%g ]", " ") end
  end
end

function done(summary, latency)
  local wrong, example = 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    if example == "" then example = thread:get("example") end
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("\nRESULT %d %d %d %d %d %d %s\n", summary.requests, summary.duration, wrong,
    broken, latency:percentile(50), latency:percentile(99), example))
end
