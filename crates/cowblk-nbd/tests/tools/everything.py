# Every command and every bad argument, through libnbd, with its own checks of arguments turned off.
import errno
import nbd

MIB = 1 << 20


def connect(export="web/vda", structured=True, contexts=()):
    h = nbd.NBD()
    h.set_export_name(export)
    h.set_request_structured_replies(structured)
    for context in contexts:
        h.add_meta_context(context)
    h.set_strict_mode(0)
    h.connect_unix(socket)
    return h


def fails(expected, act):
    try:
        act()
    except nbd.Error as error:
        assert error.errnum == expected, (error.errnum, expected, error)
    else:
        raise AssertionError("it was not refused")


for structured in (True, False):
    h = connect(structured=structured, contexts=["base:allocation", "qemu:allocation-depth"])
    size = h.get_size()
    assert size == 64 * MIB
    assert h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero() and h.can_fast_zero()
    assert h.can_cache() and h.can_multi_conn() and not h.is_read_only()
    assert h.can_df() == structured
    assert h.get_block_size(nbd.SIZE_MINIMUM) in (1, 512)
    assert h.get_block_size(nbd.SIZE_PREFERRED) == 4096
    assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 * MIB

    # Good requests, of every kind and at every alignment.
    for offset in (0, 1, 511, 512, 4095, 4096, 1 * MIB - 7):
        for length in (1, 511, 512, 513, 4096, 5000, 70000, 3 * MIB):
            data = bytes((offset + i) % 251 + 1 for i in range(997)) * (length // 997 + 1)
            data = data[:length]
            h.pwrite(data, offset, nbd.CMD_FLAG_FUA if length == 512 else 0)
            assert h.pread(length, offset) == data
            h.zero(length, offset)
            assert h.pread(length, offset) == bytes(length)
            h.pwrite(data, offset)
            h.trim(length, offset)
    h.zero(64 * MIB, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO)
    h.pwrite(b"x" * 4096, 8192)
    h.cache(32 * MIB, 0)
    h.flush()

    # Nothing.
    assert h.pread(0, 0) == b""
    h.pwrite(b"", 5)
    h.trim(0, size)
    h.zero(0, 0)

    # Beyond the end, too long, unknown flags, unknown contexts.
    for offset, length in ((size, 1), (size - 1, 2), (1 << 62, 1), ((1 << 64) - 1, 1), (size - 4096, 8192)):
        fails(errno.EINVAL, lambda: h.pread(length, offset))
        fails(errno.EINVAL, lambda: h.pwrite(bytes(length), offset))
        fails(errno.EINVAL, lambda: h.trim(length, offset))
        fails(errno.EINVAL, lambda: h.zero(length, offset))
        fails(errno.EINVAL, lambda: h.cache(length, offset))
    fails(errno.EINVAL, lambda: h.pread(32 * MIB + 1, 0))
    fails(errno.EINVAL, lambda: h.pwrite(bytes(32 * MIB + 1), 0))
    fails(errno.EINVAL, lambda: h.pwrite(b"x", 0, 1 << 15))
    fails(errno.EINVAL, lambda: h.pread(1, 0, 1 << 15))
    fails(errno.EINVAL, lambda: h.flush(1 << 15))
    fails(errno.EINVAL, lambda: h.trim(1, 0, nbd.CMD_FLAG_NO_HOLE))
    assert h.pread(32 * MIB, 32 * MIB) == bytes(32 * MIB)

    seen = {}

    def extent(context, offset, entries, error):
        seen[context] = entries

    if structured:
        assert h.can_meta_context("base:allocation") and h.can_meta_context("qemu:allocation-depth")
        h.block_status(64 * MIB, 0, extent)
        assert seen["base:allocation"] == [8192, 3, 4096, 0, 64 * MIB - 12288, 3], seen
        assert seen["qemu:allocation-depth"] == [8192, 0, 4096, 1, 64 * MIB - 12288, 0], seen
        h.block_status(6000, 8193, extent, nbd.CMD_FLAG_REQ_ONE)
        assert seen["base:allocation"] == [4095, 0], seen
        fails(errno.EINVAL, lambda: h.block_status(1, size, extent))
        fails(errno.EINVAL, lambda: h.block_status(0, 0, extent))
    else:
        fails(errno.EINVAL, lambda: h.block_status(4096, 0, extent))

    # Many at once, and a goodbye.
    buffers = [(h.aio_pread(nbd.Buffer(65536), i * 65536), i) for i in range(200)]
    while h.aio_in_flight():
        h.poll(-1)
    for cookie, _ in buffers:
        assert h.aio_command_completed(cookie)
    h.shutdown()

# Names.
for wrong in ("nothing", "web/nothing", "web/vda@nothing", "x" * 4096):
    fails(errno.ENOENT, lambda: connect(wrong))
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(socket)
names = []
h.opt_list(lambda name, description: names.append(name))
assert names == ["web/vda"], names
contexts = []
h.set_export_name("web/vda")
h.opt_list_meta_context(lambda name: contexts.append(name))
assert contexts[:2] == ["base:allocation", "qemu:allocation-depth"], contexts
h.opt_info()
assert h.get_size() == 64 * MIB
h.opt_abort()
