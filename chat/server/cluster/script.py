"""What Redis carries out in one piece: look where the stream ends, and write an entry.

Beside the stream, Redis keeps the *position* of its end: how many messages were ever written (the offset), and the
epoch. Each entry has the position of its own end. So a node that has read up to one position knows at the next entry
how many messages are missing in between. The ids of entries, and what others write to the stream, do not matter.

An *epoch* is a part of the history that can only grow. It begins with an entry of its own, a mark, in these cases: the
stream is new; another process has become the Redis, which may have started from an older file or may have been a copy
that was behind; the stream was deleted, and new ids would be lower than those that nodes wait for; a node says that it
has read what Redis does not have any more (then the mark says `lost`). A mark has the history: where each epoch has
ended, the last one first, and whether the next one was `lost`. The first epoch, which names the stream, stays in it.

KEYS: the stream; its state; its history; where the last number of this node is kept, for a day, which is longer than
anything is on its way.
ARGV: entries to keep, a name for an epoch that may begin here, which process is the Redis, the epoch in which it has
lost something or "", and what to write: number of the entry (0: just look), the last number known to have come back,
how many messages, node, text. A number that the node has written before is refused, by writing nothing.

Returns epoch and offset, the ids of the last entry and of the epoch's mark, and the history; after writing, only the
first two.
"""

SCRIPT = """
local stream, state, past, numbers = unpack(KEYS)
local keep, name, redis_run, doubt, number, back, messages, node, text = unpack(ARGV)
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
if doubt == epoch then begin(1) end

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
