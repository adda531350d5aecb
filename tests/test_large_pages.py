"""Memory put into large pages is the memory that it was."""

import ctypes
import mmap

import large_pages


def test_what_is_gathered_stays_as_it_was() -> None:
    text = bytes(range(256)) * (3 * large_pages.SIZE // 256)
    with mmap.mmap(-1, len(text), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = text
        buffer = ctypes.c_char.from_buffer(memory)
        start = ctypes.addressof(buffer)
        del buffer
        around = [part for part in large_pages.own_memory() if part[0] <= start < part[1]]
        assert len(around) == 1 and start + len(text) <= around[0][1]
        large_pages.gather([(start + 1, start + len(text) - 1)])  # what is whole lies within
        assert memory[:] == text
