-- Webhook deliveries for wrk: the same signed body each time, with an id of its own in one header.
-- Arguments after --: path, header lines that never change, name of the header with the id, body.

local threads = {}
function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  local body = args[4]
  prefix = string.format("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s%s: ", args[1], #body, args[2], args[3])
  suffix = "\r\n\r\n" .. body
  counter = 0
end

function request()
  counter = counter + 1
  return prefix .. number .. "-" .. counter .. suffix
end

function done(summary, latency, requests)
  io.write(string.format('JSON {"requests": %d, "seconds": %.6f, "refused": %d, "errors": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1000000, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
