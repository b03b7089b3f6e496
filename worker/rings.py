"""What a worker does with rings: take them from the queue, read them, and answer them.

A ring's payload comes from Redis, where others may write, too: whatever is not exactly what the
ringer sends is refused with one line in the log, and nothing of it is executed.
"""

from collections.abc import Sequence
from typing import Any, cast

import structlog
from arq.jobs import DeserializationError, deserialize_job_raw
from arq.worker import Function, func
from structlog.typing import FilteringBoundLogger

from shared.ids import is_id
from shared.queue import JOB_NAME, load_job

# KEYS: queue, bell and, of a pool that is not the default one, the bell of those who take every
# queue. ARGV: now, room in branches, peers, others wanted, ring prefix, job key prefix,
# in-progress key prefix, the pool's name.
# Takes rings out of the queue, oldest first, until the room or this worker's fair share is
# used up, and finds due jobs of other kinds, which stay: arq's own code runs those. A job that
# a plain arq worker has in progress is left alone; a ring whose payload is gone is removed.
# Returns whether rings are left, the payloads, and the ids of the others.
TAKE_SCRIPT = """
local queue, bell, now = KEYS[1], KEYS[2], ARGV[1]
local room, wanted, prefix = tonumber(ARGV[2]), tonumber(ARGV[4]), ARGV[5]
local share = math.ceil(redis.call('ZCOUNT', queue, '-inf', now) / tonumber(ARGV[3]))
local payloads, others, branches, kept, left, scanned = {}, {}, 0, 0, 0, 0
local full, exhausted = room <= 0, false
while scanned < 10000 and not (full and #others >= wanted) do
  local page = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', kept, 100)
  if #page == 0 then exhausted = true break end
  scanned = scanned + #page
  for _, id in ipairs(page) do
    local is_ring = string.sub(id, 1, #prefix) == prefix
    if is_ring and full then
      left = left + 1
      kept = kept + 1
    elseif (not is_ring and #others >= wanted)
      or redis.call('EXISTS', ARGV[7] .. id) == 1 then
      kept = kept + 1
    elseif is_ring then
      local payload = redis.call('GET', ARGV[6] .. id)
      redis.call('ZREM', queue, id)
      if payload then
        redis.call('DEL', ARGV[6] .. id)
        payloads[#payloads + 1] = payload
        branches = branches + (tonumber(string.match(id, ':(%d+):')) or 1)
        full = branches >= room or #payloads >= share
      end
    else
      others[#others + 1] = id
      kept = kept + 1
    end
  end
end
local more = (left > 0 or not exhausted) and 1 or 0
if more == 0 then
  redis.call('DEL', bell)
  if KEYS[3] then redis.call('LREM', KEYS[3], 0, ARGV[8]) end
end
return {more, payloads, others}
"""

_log: FilteringBoundLogger = structlog.get_logger(__name__)


async def run_branches(ctx: dict[Any, Any], branch_ids: Sequence[str]) -> None:
    """What a ring calls in a plain arq worker, which knows nothing of bells."""
    if isinstance(branch_ids, list) and all(map(_is_id, branch_ids)):
        await ctx["hand_over"](branch_ids)
    else:
        _log.warning("ring_refused", reason="not a ring")


def ring_function() -> Function:
    """:func:`run_branches` as arq should register it: nothing kept, nothing tried again."""
    return func(run_branches, name=JOB_NAME, keep_result=0, timeout=30, max_tries=1)


def read_ring(payload: bytes) -> list[str]:
    """The branches of a ring; none, and a line in the log, when it is not what we wrote."""
    try:
        name, arguments, _, _, _ = cast(
            tuple[object, ...], deserialize_job_raw(payload, deserializer=load_job)
        )
    except DeserializationError:
        _log.warning("ring_refused", reason="not JSON", size_bytes=len(payload))
        return []
    ids = arguments[0] if isinstance(arguments, list) and len(arguments) == 1 else None
    # Ill-formed ids would break a claim, and the claims of others that it is made with.
    if name != JOB_NAME or not isinstance(ids, list) or not all(map(_is_id, ids)):
        _log.warning("ring_refused", reason="not a ring", size_bytes=len(payload))
        return []
    return ids


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_id(value)
