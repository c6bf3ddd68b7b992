-- Posts 1 KiB binary CloudEvents with an id of their own, for bench/ingress.py.
-- The head is written by hand: wrk.format would cost the load generator more than the server spends on the request.

local thread_count = 0

function setup(thread)
  thread:set("thread_id", thread_count)
  thread_count = thread_count + 1
end

function init(args)
  local bytes = tonumber(args[1]) or 1024
  local body = '{"filler":"' .. string.rep("x", bytes - 13) .. '"}'
  prefix = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nce-specversion: 1.0\r\nce-type: com.example.order.placed\r\n"
    .. "ce-source: /shops/42/orders\r\nce-time: 2026-01-02T03:04:05.678Z\r\ncontent-type: application/json\r\ncontent-length: "
    .. #body .. "\r\nce-id: " .. thread_id .. "-"
  suffix = "\r\n\r\n" .. body
  count = 0
end

function request()
  count = count + 1
  return prefix .. count .. suffix
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"microseconds":%d,"refused":%d,"socket_errors":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
