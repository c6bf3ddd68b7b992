-- Webhook deliveries for wrk: the same signed body each time, with an id of its own in one header.
-- Arguments after --: path, header lines that never change, name of the header with the id, body.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

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
