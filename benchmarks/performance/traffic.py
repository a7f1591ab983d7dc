"""What the load generator asks for, and the wrk script that asks it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

ZIPF = 0.9
ORDER = 65536
FIXED_FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench\r\n"
    "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """A stream of GET requests. Sizes are names from `sizes.SIZES`; several are mixed evenly over the objects."""

    sizes: tuple[str, ...]
    objects: int
    connections: int
    kind: str = "obj"  # obj: cacheable; nc: no-store; check: to be validated each time
    version: str = "1.1"
    connection: str = ""  # what each request says of it
    uniform: bool = False  # else Zipf 0.9
    new_fields: bool = False  # all fields but Host differ in every request
    new_share: float = 0.0  # share of requests for cacheable objects that nobody asked for before
    private_share: float = 0.0  # share of requests for responses that must not be stored

    @property
    def warmed(self) -> bool:
        """Whether there is something to store before the measurement."""
        return self.kind == "obj" and self.objects > 1

    def path(self, number: int) -> str:
        """The path of object `number`, from 1."""
        size = self.sizes[number % len(self.sizes)]
        return f"/{self.kind}/{size}/{number}"

    def paths(self) -> list[str]:
        """Every object's path."""
        return [self.path(number) for number in range(1, self.objects + 1)]


SCRIPT = """
local origin = "@ORIGIN@"
local sizes = {@SIZES@}
local objects, order_length, zipf = @OBJECTS@, @ORDER@, @ZIPF@
local uniform, new_fields = @UNIFORM@, @NEW_FIELDS@
local new_share, private_share = @NEW_SHARE@, @PRIVATE_SHARE@
local fixed = "@FIELDS@"
local left_out = {@LEFT_OUT@}
local lines, order, at, slot = {}, {}, 0, 0

local function line(kind, size, name)
  return "GET http://" .. origin .. "/" .. kind .. "/" .. size .. "/" .. name
    .. " HTTP/@VERSION@\\r\\nHost: " .. origin .. "\\r\\n@CONNECTION@"
end

local function text_of(number)
  if not lines[number] then
    local text = line("@KIND@", sizes[number % #sizes + 1], number)
    lines[number] = new_fields and text or text .. fixed .. "\\r\\n"
  end
  return lines[number]
end

local function kept(number)
  while left_out[number] do number = number % objects + 1 end
  return number
end

local function draw()
  if uniform then
    for i = 1, order_length do order[i] = text_of(kept(math.random(objects))) end
    return
  end
  local sums, sum = {}, 0
  for i = 1, objects do sum = sum + 1 / i ^ zipf; sums[i] = sum end
  for i = 1, order_length do
    local wanted, low, high = math.random() * sum, 1, objects
    while low < high do
      local middle = math.floor((low + high) / 2)
      if sums[middle] < wanted then low = middle + 1 else high = middle end
    end
    order[i] = text_of(kept(low))
  end
end

function init(args)
  slot = tonumber(args[1])
  math.randomseed(slot)
  draw()
end

function request()
  at = at + 1
  local asked = order[at % order_length + 1]
  if new_fields then
    return asked .. string.format(
      "User-Agent: bench/%d.%d\\r\\nAccept: text/html;q=0.%d,*/*\\r\\nAccept-Language: en;q=0.%d\\r\\n" ..
      "Accept-Encoding: gzip;q=0.%d\\r\\nReferer: http://from.test/%d/%d\\r\\nX-Request-Id: %d-%d\\r\\n\\r\\n",
      slot, at, at, at, at, slot, at, slot, at)
  end
  if new_share > 0 or private_share > 0 then
    local lot = math.random()
    local size = sizes[at % #sizes + 1]
    if lot < new_share then return line("obj", size, "new" .. slot .. "x" .. at) .. fixed .. "\\r\\n" end
    if lot < new_share + private_share then return line("nc", size, at) .. fixed .. "\\r\\n" end
  end
  return asked
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def script(traffic: Traffic, authority: str, left_out: Collection[int] = ()) -> str:
    """The lua text for wrk; its one argument is the number of the slot, from which all chance is seeded.

    The objects `left_out` are not asked for, their neighbours are in their place.
    """
    values = {
        "ORIGIN": authority,
        "SIZES": ", ".join(f'"{size}"' for size in traffic.sizes),
        "OBJECTS": str(traffic.objects),
        "ORDER": str(ORDER),
        "ZIPF": str(ZIPF),
        "UNIFORM": str(traffic.uniform).lower(),
        "NEW_FIELDS": str(traffic.new_fields).lower(),
        "NEW_SHARE": str(traffic.new_share),
        "PRIVATE_SHARE": str(traffic.private_share),
        "KIND": traffic.kind,
        "VERSION": traffic.version,
        "CONNECTION": f"Connection: {traffic.connection}\\r\\n" if traffic.connection else "",
        "LEFT_OUT": ", ".join(f"[{number}] = true" for number in sorted(left_out)),
        "FIELDS": FIXED_FIELDS.replace("\r\n", "\\r\\n"),
    }
    text = SCRIPT
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text
