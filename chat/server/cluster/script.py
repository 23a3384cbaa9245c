"""The script that Redis runs without interruption: it says where the stream ends, and writes an entry.

A *position* is an epoch and an offset. The offset says how many messages were written before that point. Each entry has
the position at which it ends, so a node that has read up to one entry knows at the next one how many messages are
missing in between. The ids of entries, and what others write to the stream, do not matter.

An *epoch* is a part of the stream in which nothing was lost, as far as Redis knows. It begins with an entry of its own,
its *mark*, in these cases:

- The stream is new.
- Another process has become the Redis. It may have started from an old file, or may be a copy that was behind.
- The stream was deleted, and new entries have lower ids than those that nodes have read.
- A node says that it has read what Redis does not have any more. Then the epoch before the mark ended with a loss.

A mark has the *history*: the epochs before its own, the latest one first. Each is "NAME OFFSET LOST": the offset at
which that epoch ended, and 1 if it ended with a loss, otherwise 0. For example, the mark of epoch c may have the
history "b 70 1,a 50 0". A history has at most 16 epochs: when there are more, the second oldest is dropped. The oldest
stays, because its name tells this stream from others that had the same key.

KEYS: the stream; its state; its history; the last number of this node, which is kept for a day, far longer than any
entry is on its way.
ARGV: how many entries to keep; a name in case a new epoch begins; which process is the Redis; the epoch in which it has
lost something, or ""; and what to write: the number of the entry (0: just look), the last number known to have come
back, how many messages, the node, the text. If the node has written this number before, nothing is written.

Returns epoch, offset, the id of the last entry, the id of the epoch's mark, and the history; after writing, only epoch
and offset.
"""

SCRIPT = """
local stream, state, past, numbers = unpack(KEYS)
local keep, name, redis_run, loss_in, number, back, messages, node, text = unpack(ARGV)
local offset, epoch, last, mark, run =
    (redis.call('GET', state) or ''):match('^(%d+) (%S+) (%S+) (%S+) (%S+)$')
local history

local function add(...)
    last = redis.call('XADD', stream, 'MAXLEN', '~', keep, '*', 'epoch', epoch, 'end', offset, ...)
    mark = mark or last
    redis.call('SET', state, table.concat({offset, epoch, last, mark, run}, ' '))
end

local function begin(lost)
    local epochs = {}
    if epoch then
        epochs[1] = epoch .. ' ' .. offset .. ' ' .. lost
        for item in (redis.call('GET', past) or ''):gmatch('[^,]+') do table.insert(epochs, item) end
        if #epochs > 16 then table.remove(epochs, #epochs - 1) end
    end
    history = table.concat(epochs, ',')
    offset, epoch, run, mark = offset or '0', name, redis_run, nil
    add('history', history)
    redis.call('SET', past, history)
end

local function later(one, other)  -- ids compared as text: Lua's numbers would round them
    local ms, count = one:match('(%d+)-(%d+)')
    local other_ms, other_count = other:match('(%d+)-(%d+)')
    if ms == other_ms then ms, other_ms = count, other_count end
    return #ms > #other_ms or #ms == #other_ms and ms > other_ms
end

local top = '0-0'
if redis.call('EXISTS', stream) == 1 then
    local about = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #about, 2 do
        if about[i] == 'last-generated-id' then top = about[i + 1] end
    end
end
if top == '18446744073709551615-18446744073709551615' then  -- somebody has used up the ids
    redis.call('DEL', stream)
    top = '0-0'
end
if not epoch or (number == '0' and run ~= redis_run) or later(last, top) then begin(0) end
if loss_in == epoch then begin(1) end

if number == '0' then
    return {epoch, offset, last, mark, history or redis.call('GET', past) or ''}
end
local seen = math.max(back, tonumber(redis.call('GET', numbers) or 0) or 0)
if tonumber(number) > seen + 1 then
    return redis.error_reply('GAP between ' .. seen .. ' and ' .. number)
end
if tonumber(number) > seen then
    offset = string.format('%.0f', offset + messages)
    add('node', node, 'number', number, 'text', text)
    redis.call('SET', numbers, number, 'EX', 86400)
end
return {epoch, offset}
"""
