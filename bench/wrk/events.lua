-- Events for wrk: 1 KiB of data, a key in turn or none, the time of sending in an attribute.
-- Arguments after --: path, milliseconds between two events of one connection (0: as fast as answers come), keys (0: events without key).
local ffi = require("ffi")
ffi.cdef[[
typedef struct { long tv_sec; long tv_nsec; } timespec_t;
int clock_gettime(int clock, timespec_t *now);
]]

local now = ffi.new("timespec_t")
local counter = 0

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")

function init(args)
  pause = tonumber(args[2])
  keys = tonumber(args[3])
  local head = "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1024\r\nContent-Type: application/octet-stream\r\n"
    .. "ce-specversion: 1.0\r\nce-source: /bench\r\nce-type: bench.event\r\n"
  prefix = string.format(head, args[1])
  body = string.rep("x", 1024)
  math.randomseed(number + 1)
end

function request()
  counter = counter + 1
  ffi.C.clock_gettime(0, now)
  local key = ""
  if keys > 0 then key = string.format("ce-partitionkey: k%d\r\n", counter % keys) end
  return string.format("%sce-id: %d-%d\r\n%sce-sentat: %d.%03d\r\n\r\n%s", prefix, number, counter, key,
    tonumber(now.tv_sec), tonumber(now.tv_nsec) / 1000000, body)
end

function delay()
  if pause == 0 then return 0 end
  return pause * (0.5 + math.random())
end
